//! Encoders that were not made for late interaction: their hidden states, as they are, are the rows.
//!
//! sentence-transformers and pylate would both add a projection with random weights, which is of no use to anyone. What
//! a sentence encoder does behind its Transformer (pooling, then layers for the sentence) has no part in this. Nothing
//! is said about the norm of a hidden state: rows are scaled to unit norm when they are compared, by cosine.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::folder::Folder;
use super::transformer::Transformer;
use super::{Checkpoint, Module, OPTIONS, assemble, split};
use crate::error::Result;
use crate::recipe::{Format, Norm, Recipe, RoleRecipe, RowRules};

#[derive(Default, Deserialize)]
struct Options {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

/// Reads a sentence encoder, `modules.json` and all.
pub(super) fn read_modules(mut folder: Folder, modules: &[Module]) -> Result<Checkpoint> {
    let (first, rest) = split(modules)?;
    // What stands behind the pooling sees sentences; what stands before it would change the tokens.
    match rest.first() {
        Some(module) if !module.is("Pooling") => {
            return Err(module.refused("behind a sentence encoder's Transformer comes its Pooling"));
        }
        _ => {}
    }
    let options: Options = folder.json_if_any(OPTIONS)?.unwrap_or_default();
    let mut transformer = Transformer::read(&mut folder, &first.at())?;
    transformer.additions.lowercase = transformer.options.do_lower_case;
    finish(folder, transformer, &options)
}

/// Reads an encoder as transformers saves it.
pub(super) fn read_encoder(mut folder: Folder) -> Result<Checkpoint> {
    let transformer = Transformer::read(&mut folder, "")?;
    finish(folder, transformer, &Options::default())
}

fn finish(folder: Folder, transformer: Transformer, options: &Options) -> Result<Checkpoint> {
    let named = |name: &str| options.prompts.get(name).cloned().flatten();
    let default = options.default_prompt_name.as_deref().and_then(named);
    let role = |name| RoleRecipe {
        prompt: named(name).or_else(|| default.clone()).unwrap_or_default(),
        strip: false,
        lowercase: false,
        marker: None,
        max_tokens: transformer.limit(),
        expansion: None,
        rows: RowRules::default(),
        pooling: None,
    };
    let recipe = Recipe {
        format: Format::Plain,
        dim: transformer.backbone.hidden_size(),
        query: role("query"),
        document: role("document"),
        projection: Vec::new(),
        norm: Norm::Unsaid,
        pooled_rows: None,
        matryoshka: Vec::new(),
    };
    assemble(folder, transformer, recipe)
}
