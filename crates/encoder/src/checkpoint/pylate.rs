//! PyLate's format: a Transformer and Dense layers, options in `config_sentence_transformers.json`.
//!
//! Followed is pylate 1.6. Where sentence-transformers 6.2 reads the same folder otherwise:
//!
//! * A missing `document_length` is 180, not the model's limit; missing prefixes are `[Q] ` and `[D] `, not none.
//! * Blanks around a text are cut off, and the prefix is inserted as a token.
//! * A word of the skip list that the vocabulary lacks stands for the unknown token, which then has no rows.
//! * `do_lower_case` lowercases special tokens in a text too.
//!
//! One thing is sentence-transformers' way: `prompts.query` and `prompts.document` are used by themselves, where PyLate
//! wants to be asked. A `default_prompt_name` is the prompt of a role that has none.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::folder::Folder;
use super::transformer::Transformer;
use super::{Checkpoint, Module, OPTIONS, assemble, dense, split};
use crate::error::Result;
use crate::recipe::{Format, Norm, Recipe, RoleRecipe, RowRules};

/// The symbols that have no rows where no list says otherwise: ASCII's punctuation.
pub(super) fn punctuation() -> Vec<String> {
    (0..128_u8).map(char::from).filter(char::is_ascii_punctuation).map(String::from).collect()
}

#[derive(Default, Deserialize)]
struct Options {
    query_prefix: Option<String>,
    document_prefix: Option<String>,
    query_length: Option<usize>,
    document_length: Option<usize>,
    attend_to_expansion_tokens: Option<bool>,
    skiplist_words: Option<Vec<String>>,
    do_query_expansion: Option<bool>,
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

impl Options {
    fn prompt(&self, role: &str) -> String {
        let named = |name: &str| self.prompts.get(name).cloned().flatten().filter(|prompt| !prompt.is_empty());
        let default = || self.default_prompt_name.as_deref().and_then(named);
        named(role).or_else(default).unwrap_or_default()
    }
}

/// Reads the model in `folder`.
pub(super) fn read(mut folder: Folder, modules: &[Module]) -> Result<Checkpoint> {
    let (first, rest) = split(modules)?;
    let options: Options = folder.json_if_any(OPTIONS)?.unwrap_or_default();
    let mut transformer = Transformer::read(&mut folder, &first.at())?;
    if let Some(module) = rest.iter().find(|module| !module.is("Dense") && !module.is("Normalize")) {
        return Err(module.refused("PyLate's models are a Transformer and Dense layers"));
    }
    let hidden = transformer.backbone.hidden_size();
    let projection = dense::chain(&mut folder, rest.iter().filter(|m| m.is("Dense")), hidden, None)?;
    let dim = projection.last().map_or(hidden, |dense| dense.output);
    let query = role(&mut transformer, &options, true)?;
    let document = role(&mut transformer, &options, false)?;
    let recipe = Recipe {
        format: Format::PyLate,
        dim,
        query,
        document,
        projection,
        norm: Norm::Unit,
        pooled_rows: None,
        matryoshka: Vec::new(),
    };
    assemble(folder, transformer, recipe)
}

/// What happens to queries, or to documents.
fn role(transformer: &mut Transformer, options: &Options, query: bool) -> Result<RoleRecipe> {
    let (name, prefix, length, default) = if query {
        ("query", &options.query_prefix, options.query_length, ("[Q] ", 32))
    } else {
        ("document", &options.document_prefix, options.document_length, ("[D] ", 180))
    };
    let max_tokens = transformer.checked(OPTIONS, &format!("{name}_length"), length.unwrap_or(default.1))?;
    let marker = Some(prefix.as_deref().unwrap_or(default.0)).filter(|marker| !marker.is_empty());
    if let Some(marker) = marker {
        transformer.mark(marker, false);
    }
    let expansion = if query && options.do_query_expansion.unwrap_or(true) {
        Some(transformer.masks(max_tokens, options.attend_to_expansion_tokens.unwrap_or(false))?)
    } else {
        None
    };
    let rows = if query {
        RowRules::default()
    } else {
        let skip = options.skiplist_words.clone().unwrap_or_else(punctuation);
        RowRules { skip, unknown: transformer.unknown(), ..RowRules::default() }
    };
    Ok(RoleRecipe {
        prompt: options.prompt(name),
        strip: true,
        lowercase: transformer.options.do_lower_case,
        marker: marker.map(str::to_owned),
        max_tokens,
        expansion,
        rows,
        pooling: None,
    })
}
