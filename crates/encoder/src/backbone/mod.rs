//! The networks: token ids `[n]` in, one hidden state for each token out, `[n, h]`.

mod bert;
mod config;
mod deberta;
mod distances;
mod layers;
mod modernbert;
mod rotary;

use burn::prelude::*;
use serde::Deserialize;

use crate::batch::{Batch, Positions};
use crate::error::{Error, Result};
use crate::ops::{Ops, Precision};
use crate::weights::Weights;

use bert::Bert;
use config::BertConfig;
use deberta::{Deberta, DebertaConfig};
use modernbert::{ModernBert, ModernBertConfig};

pub(crate) use layers::{LayerNorm, Layers, activate};
pub(crate) use rotary::{Angles, Rotary};

/// What a network is, as `config.json` says.
#[derive(Debug, Clone)]
pub(crate) enum BackboneConfig {
    /// BERT, RoBERTa, XLM-R, ELECTRA, DistilBERT, and XLM-R as Jina has it: one network, other names and positions.
    Bert(BertConfig),
    /// DeBERTa, versions 2 and 3.
    Deberta(DebertaConfig),
    /// ModernBERT.
    ModernBert(ModernBertConfig),
}

/// What decides how a `config.json` is read.
#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
    #[serde(default)]
    auto_map: Option<serde_json::Value>,
    #[serde(default)]
    is_decoder: bool,
}

impl BackboneConfig {
    /// Reads and checks the `config.json` called `file`.
    pub(crate) fn parse(file: &str, json: &[u8]) -> Result<Self> {
        let kind: Kind = serde_json::from_slice(json).map_err(|source| Error::Json { file: file.into(), source })?;
        if kind.is_decoder {
            return Err(unsupported(file, "is_decoder", "true", "the encoder attends in both directions"));
        }
        // Of all code in repositories, the network of this one is known: it is computed here.
        let flash = kind.model_type.as_deref().is_none_or(|name| name == "xlm-roberta")
            && kind.auto_map.as_ref().is_some_and(is_flash);
        let model_type = match &kind.model_type {
            Some(name) => name,
            None if flash => "xlm-roberta",
            None => {
                let source = serde::de::Error::missing_field("model_type");
                return Err(Error::Json { file: file.into(), source });
            }
        };
        if !flash {
            refuse_code(file, kind.auto_map.as_ref())?;
        }
        Ok(match model_type {
            "modernbert" => Self::ModernBert(ModernBertConfig::parse(file, json)?),
            "deberta-v2" => Self::Deberta(DebertaConfig::parse(file, json)?),
            other => Self::Bert(BertConfig::parse(file, json, other, flash)?),
        })
    }

    /// Refuses a network, whose config is `file`, that is computed for cross-encoders alone.
    pub(crate) fn check_rows(&self, file: &str) -> Result<()> {
        match self {
            Self::Bert(_) | Self::ModernBert(_) => Ok(()),
            // What it makes of tokens that nothing attends to, as those that fill queries up may be, is not done here.
            Self::Deberta(_) => {
                Err(unsupported(file, "model_type", "deberta-v2", "it is computed for cross-encoders only"))
            }
        }
    }

    /// The kind of network, in the words of Hugging Face.
    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::Bert(config) => config.kind(),
            Self::Deberta(_) => "deberta-v2",
            Self::ModernBert(_) => "modernbert",
        }
    }

    /// Rows of the embedding table, and its name.
    pub(crate) fn vocabulary(&self) -> (usize, &'static str) {
        match self {
            Self::Bert(config) => (config.vocab_size, "embeddings.word_embeddings.weight"),
            Self::Deberta(config) => (config.vocab_size, "embeddings.word_embeddings.weight"),
            Self::ModernBert(config) => (config.vocab_size, "embeddings.tok_embeddings.weight"),
        }
    }

    /// Values of a hidden state.
    pub(crate) fn hidden_size(&self) -> usize {
        match self {
            Self::Bert(config) => config.hidden_size,
            Self::Deberta(config) => config.hidden_size,
            Self::ModernBert(config) => config.hidden_size,
        }
    }

    /// The most values that a row has within the network.
    pub(crate) fn widest(&self) -> usize {
        match self {
            Self::Bert(config) => (3 * config.hidden_size).max(config.intermediate_size),
            Self::Deberta(config) => (3 * config.hidden_size).max(config.intermediate_size),
            Self::ModernBert(config) => config.widest(),
        }
    }

    /// Tokens that a text may have.
    pub(crate) fn positions(&self) -> usize {
        match self {
            Self::Bert(config) => config.positions(),
            Self::Deberta(config) => config.max_position_embeddings,
            Self::ModernBert(config) => config.max_position_embeddings,
        }
    }

    /// What it is, for people.
    pub(crate) fn summary(&self) -> String {
        let kind = self.kind();
        let layers = match self {
            Self::Bert(config) => config.num_hidden_layers,
            Self::Deberta(config) => config.num_hidden_layers,
            Self::ModernBert(config) => config.layer_count(),
        };
        let (vocabulary, positions) = (self.vocabulary().0, self.positions());
        format!("{kind}, {layers} layers of {}, {vocabulary} words, {positions} positions", self.hidden_size())
    }

    /// How tokens are counted.
    pub(crate) fn counting(&self) -> Positions {
        match self {
            Self::Bert(config) => config.counting(),
            Self::Deberta(_) | Self::ModernBert(_) => Positions::Plain,
        }
    }
}

/// Whether all code that `auto_map` names is Jina's XLM-R: of its own repository, as jina-colbert-v2 has it, or a copy beside
/// the config, as jina-reranker-v2 does.
fn is_flash(auto_map: &serde_json::Value) -> bool {
    let Some(map) = auto_map.as_object() else { return false };
    let copied = map.get("AutoConfig").is_some_and(|code| code == "configuration_xlm_roberta.XLMRobertaFlashConfig");
    let known = |code: &str| {
        code.starts_with("jinaai/xlm-roberta-flash-implementation--")
            || copied && ["configuration_xlm_roberta.", "modeling_xlm_roberta."].iter().any(|own| code.starts_with(own))
    };
    !map.is_empty() && map.values().all(|code| code.as_str().is_some_and(known))
}

/// Refuses a model whose network is code in a repository.
fn refuse_code(file: &str, auto_map: Option<&serde_json::Value>) -> Result<()> {
    match auto_map {
        Some(serde_json::Value::Object(map)) if !map.is_empty() => {
            let found = serde_json::Value::Object(map.clone()).to_string();
            Err(unsupported(file, "auto_map", &found, "code that comes with a model is never run"))
        }
        _ => Ok(()),
    }
}

fn unsupported(file: &str, what: &str, found: &str, supported: &'static str) -> Error {
    Error::Unsupported { file: file.into(), what: what.into(), found: format!("{found:?}"), supported }
}

fn disagrees(file: &str, what: &str, found: impl ToString, expected: String) -> Error {
    Error::Disagrees { file: file.into(), what: what.into(), found: found.to_string(), expected }
}

/// Checks sizes against generous bounds, which keep their products far from overflow.
fn check_sizes(file: &str, sizes: &[(&str, usize, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, found, max)| *found == 0 || found > max) {
        Some((what, found, max)) => Err(disagrees(file, what, found, format!("1 to {max}"))),
        None => Ok(()),
    }
}

/// Checks that `hidden_size` splits into heads, of an even size if they are rotated.
fn check_heads(file: &str, hidden: usize, heads: usize, rotated: bool) -> Result<()> {
    if !hidden.is_multiple_of(heads) || rotated && !hidden.is_multiple_of(2 * heads) {
        let what = if rotated { "twice num_attention_heads" } else { "num_attention_heads" };
        return Err(disagrees(file, "hidden_size", hidden, format!("a multiple of {what}, {heads}")));
    }
    Ok(())
}

/// A network with its weights.
pub(crate) enum Backbone<B: Ops> {
    Bert(Bert<B>),
    Deberta(Deberta<B>),
    ModernBert(ModernBert<B>),
}

impl<B: Ops> Backbone<B> {
    /// Reads the tensors that `config` implies, under their Hugging Face names.
    pub(crate) fn load(
        weights: &Weights,
        config: &BackboneConfig,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Self> {
        Ok(match config {
            BackboneConfig::Bert(config) => Self::Bert(Bert::load(weights, config, precision, device)?),
            BackboneConfig::Deberta(config) => Self::Deberta(Deberta::load(weights, config, precision, device)?),
            BackboneConfig::ModernBert(config) => {
                Self::ModernBert(ModernBert::load(weights, config, precision, device)?)
            }
        })
    }

    /// Hidden states `[n, h]` of a batch.
    pub(crate) fn forward(&self, batch: &Batch<B>) -> Tensor<B, 2> {
        match self {
            Self::Bert(network) => network.forward(batch),
            Self::Deberta(network) => network.forward(batch),
            Self::ModernBert(network) => network.forward(batch),
        }
    }
}
