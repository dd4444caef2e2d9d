//! The format of Sentence Transformers 6: a MultiVectorEncoder, every step of it a module.
//!
//! Followed is sentence-transformers 6.2. A model that does not list Normalize has rows of any norm: its queries can be
//! encoded, but its documents cannot be indexed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::folder::Folder;
use super::transformer::{Strategy, Transformer};
use super::{Checkpoint, Module, OPTIONS, assemble, dense, split};
use crate::error::{Error, Result};
use crate::recipe::{Activation, Expansion, Format, Norm, Recipe, RoleRecipe, RowRules, TokenPooling};

#[derive(Default, Deserialize)]
struct Options {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// PyLate's options, which this format says in the configs of its modules.
const PYLATE: [&str; 8] = [
    "query_prefix",
    "document_prefix",
    "query_length",
    "document_length",
    "query_expansion",
    "skiplist_words",
    "do_query_expansion",
    "attend_to_expansion_tokens",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mask {
    skiplist_words: Option<Vec<String>>,
    #[serde(default = "documents")]
    skiplist_tasks: Vec<String>,
    keep_only_token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pooling {
    pool_factor: f64,
    #[serde(default = "one")]
    num_protected_tokens: usize,
    #[serde(default)]
    normalize_embeddings: bool,
    #[serde(default = "documents")]
    tasks: Vec<String>,
}

#[derive(Deserialize)]
struct Normalize {
    module_input_name: Option<String>,
}

fn documents() -> Vec<String> {
    vec!["document".into()]
}

fn one() -> usize {
    1
}

/// Reads the model in `folder`.
pub(super) fn read(mut folder: Folder, modules: &[Module]) -> Result<Checkpoint> {
    let (first, rest) = split(modules)?;
    let options: Options = folder.json_if_any(OPTIONS)?.unwrap_or_default();
    if let Some((what, found)) = options.others.iter().find(|(name, v)| PYLATE.contains(&name.as_str()) && !v.is_null())
    {
        return Err(Error::Unsupported {
            file: OPTIONS.into(),
            what: what.clone(),
            found: found.to_string(),
            supported: "a MultiVectorEncoder says this in the configs of its modules",
        });
    }
    let mut transformer = Transformer::read(&mut folder, &first.at())?;
    transformer.additions.lowercase = transformer.options.do_lower_case;
    let steps = Steps::read(&mut folder, rest, transformer.backbone.hidden_size())?;
    let role = |name: &str| {
        let prompt = options.prompts.get(name).cloned().flatten().unwrap_or_default();
        steps.role(&transformer, name, prompt)
    };
    let (query, document) = (role("query")?, role("document")?);
    let dim = steps.projection.last().map_or(transformer.backbone.hidden_size(), |dense| dense.output);
    let recipe = Recipe {
        format: Format::MultiVector,
        dim,
        norm: if steps.normalize { Norm::Unit } else { Norm::Raw },
        query,
        document,
        projection: steps.projection,
        pooled_rows: None,
        matryoshka: Vec::new(),
    };
    assemble(folder, transformer, recipe)
}

/// The modules behind the Transformer, which must stand in this order.
struct Steps {
    projection: Vec<crate::recipe::Dense>,
    mask: Option<Mask>,
    normalize: bool,
    pooling: Option<Pooling>,
}

impl Steps {
    fn read(folder: &mut Folder, modules: &[Module], hidden: usize) -> Result<Self> {
        let dense = modules.iter().take_while(|module| module.is("Dense")).count();
        let projection = dense::chain(folder, modules[..dense].iter(), hidden, Some(Activation::Tanh))?;
        let mut steps = Self { projection, mask: None, normalize: false, pooling: None };
        for module in &modules[dense..] {
            let file = format!("{}config.json", module.at());
            let before_pooling = steps.pooling.is_none();
            if module.is("MultiVectorMask") && steps.mask.is_none() && before_pooling {
                steps.mask = Some(folder.json(&file)?);
            } else if module.is("Normalize") && before_pooling {
                steps.normalize |= folder.json::<Normalize>(&file)?.check(&file)?;
            } else if module.is("HierarchicalTokenPooling") && before_pooling {
                let pooling: Pooling = folder.json(&file)?;
                pooling.check(&file)?;
                steps.pooling = Some(pooling);
            } else {
                return Err(module.refused(
                    "a MultiVectorEncoder has Dense layers, then a MultiVectorMask and Normalize, then \
                     HierarchicalTokenPooling",
                ));
            }
        }
        Ok(steps)
    }

    fn role(&self, transformer: &Transformer, name: &str, prompt: String) -> Result<RoleRecipe> {
        let query = name == "query";
        let (max_tokens, expansion) = if query {
            self.query_length(transformer)?
        } else {
            let file = format!("{}sentence_bert_config.json", transformer.at);
            let length = transformer.options.document_length.unwrap_or_else(|| transformer.limit());
            (transformer.checked(&file, "document_length", length)?, None)
        };
        let rows = self.mask.as_ref().map_or_else(RowRules::default, |mask| RowRules {
            skip: match &mask.skiplist_words {
                Some(words) if mask.skiplist_tasks.iter().any(|task| task == name) => words.clone(),
                _ => Vec::new(),
            },
            only: mask.keep_only_token_ids.clone().filter(|ids| !query && !ids.is_empty()),
            ..RowRules::default()
        });
        let pooling = self.pooling.as_ref().filter(|pooling| pooling.tasks.iter().any(|task| task == name));
        Ok(RoleRecipe {
            prompt,
            strip: false,
            lowercase: false,
            marker: None,
            max_tokens,
            expansion,
            rows,
            pooling: pooling.map(|pooling| TokenPooling {
                factor: pooling.pool_factor,
                protected: pooling.num_protected_tokens,
                normalize: pooling.normalize_embeddings,
            }),
        })
    }

    /// Tokens that a query may have, and how it is filled up.
    fn query_length(&self, transformer: &Transformer) -> Result<(usize, Option<Expansion>)> {
        let file = format!("{}sentence_bert_config.json", transformer.at);
        let limit = transformer.options.query_length.unwrap_or_else(|| transformer.limit());
        let limit = transformer.checked(&file, "query_length", limit)?;
        let Some(config) = &transformer.options.query_expansion else { return Ok((limit, None)) };
        let length = transformer.checked(&file, "query_expansion.length", config.length)?;
        if length == 0 || transformer.options.query_length.is_some_and(|most| most < length) {
            return Err(Error::Disagrees {
                file,
                what: "query_expansion.length".into(),
                found: length.to_string(),
                expected: format!("1 to {limit}, the query_length"),
            });
        }
        let token = match &config.token {
            Some(token) => token.clone(),
            None => transformer.mask()?,
        };
        let expansion = Expansion { token, length, attend: config.attend, rows: self.mask.is_some() || config.attend };
        let max_tokens = if config.strategy == Strategy::Fixed { length } else { limit.max(length) };
        Ok((max_tokens, Some(expansion)))
    }
}

impl Normalize {
    fn check(&self, file: &str) -> Result<bool> {
        let name = self.module_input_name.as_deref().unwrap_or("missing");
        if name == "token_embeddings" {
            return Ok(true);
        }
        Err(Error::Unsupported {
            file: file.into(),
            what: "module_input_name".into(),
            found: name.into(),
            supported: "token_embeddings are normalised",
        })
    }
}

impl Pooling {
    fn check(&self, file: &str) -> Result<()> {
        if self.pool_factor >= 1.0 && self.pool_factor.is_finite() {
            return Ok(());
        }
        let (what, found) = ("pool_factor".into(), self.pool_factor.to_string());
        Err(Error::Disagrees { file: file.into(), what, found, expected: "1 or more".into() })
    }
}
