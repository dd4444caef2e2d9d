//! Cross-encoders: sequence classifiers of one label, as transformers and sentence-transformers save them.
//!
//! A head makes one number of the hidden states of a pair. Which head it is, the network's kind says; what is made of the
//! number, the config. `tests/golden/cross/README.md` says where that was seen.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::folder::Folder;
use super::transformer::{Task, Transformer};
use super::{MODULES, Model, Module, OPTIONS, Source, split};
use crate::backbone::BackboneConfig;
use crate::cross::Scores;
use crate::error::{Error, Result};
use crate::files::CONFIG;
use crate::recipe::Activation;

/// A cross-encoder, read but not yet loaded.
pub(crate) struct Classifier {
    pub(crate) model: Model,
    pub(crate) head: Head,
    /// What is made of its number.
    pub(crate) scores: Scores,
    /// Tokens that a pair may have.
    pub(crate) max_tokens: usize,
    /// What stands before every query.
    pub(crate) prompt: String,
    /// Whether the network is told which text is which.
    pub(crate) types: bool,
}

/// From hidden states to one number: `out(norm(act(dense(pooled))))`.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) pooled: Pooled,
    pub(crate) dense: &'static str,
    pub(crate) dense_bias: bool,
    pub(crate) activation: Activation,
    /// Its name, and whether it shifts.
    pub(crate) norm: Option<(&'static str, bool, f64)>,
    pub(crate) out: &'static str,
}

/// Which hidden state stands for a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooled {
    First,
    Mean,
}

/// The part of `config.json` that is about the head.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architectures: Vec<String>,
    id2label: Option<Map<String, Value>>,
    num_labels: Option<usize>,
    #[serde(default)]
    classifier_bias: bool,
    classifier_pooling: Option<String>,
    classifier_activation: Option<String>,
    #[serde(default)]
    norm_bias: bool,
    norm_eps: Option<f64>,
    pooler_hidden_act: Option<String>,
    pooler_hidden_size: Option<usize>,
    sentence_transformers: Option<Options>,
    sbert_ce_default_activation_function: Option<String>,
}

/// What sentence-transformers adds, within `config.json` or, from version 6 on, beside it.
#[derive(Default, Deserialize)]
struct Options {
    model_type: Option<String>,
    activation_fn: Option<String>,
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

impl Classifier {
    /// Reads the model in `source`.
    pub(crate) fn open(source: &dyn Source) -> Result<Self> {
        let mut folder = Folder::new(source);
        let config: Config = folder.json(CONFIG)?;
        config.check()?;
        // Without modules, or with those of another kind of model, what stands beside the config counts for nothing.
        let modules: Option<Vec<Module>> = folder.json_if_any(MODULES)?;
        let options: Option<Options> = if modules.is_some() { folder.json_if_any(OPTIONS)? } else { None };
        let options = options.filter(|options| options.model_type.as_deref() == Some("CrossEncoder"));
        let task = options.as_ref().map(|_| Task::Classification);
        if let (Some(modules), Some(_)) = (modules, task) {
            let (first, rest) = split(&modules)?;
            if let Some(other) = rest.first().or((!first.at().is_empty()).then_some(first)) {
                return Err(other.refused("a cross-encoder is a Transformer alone, in the model's folder"));
            }
        }
        let prompt =
            options.as_ref().and_then(|options| options.prompts.get(options.default_prompt_name.as_ref()?)?.clone());
        let transformer = Transformer::read_for(&mut folder, "", task)?;
        let (head, scores) = (config.head(&transformer.backbone)?, config.scores(options)?);
        let (max_tokens, prompt, types) = (transformer.limit(), prompt.unwrap_or_default(), transformer.types());
        Ok(Self { model: Model::new(folder, transformer)?, head, scores, max_tokens, prompt, types })
    }
}

fn unsupported(what: &str, found: &str, supported: &'static str) -> Error {
    Error::Unsupported { file: CONFIG.into(), what: what.into(), found: format!("{found:?}"), supported }
}

/// The activation `name` of a head, which the key `what` has.
fn activation(what: &str, name: Option<&str>) -> Result<Activation> {
    match name.unwrap_or("gelu") {
        "gelu" => Ok(Activation::Gelu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        "silu" | "swish" => Ok(Activation::Silu),
        "relu" => Ok(Activation::Relu),
        "tanh" => Ok(Activation::Tanh),
        other => Err(unsupported(what, other, "a head computes gelu, gelu_pytorch_tanh, silu, relu or tanh")),
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        let classifies = |name: &String| name.ends_with("ForSequenceClassification");
        if !self.architectures.iter().any(classifies) {
            let found = self.architectures.join(", ");
            return Err(unsupported("architectures", &found, "a cross-encoder is a model for sequence classification"));
        }
        // What the config does not say is two.
        let labels = self.id2label.as_ref().map(Map::len).or(self.num_labels).unwrap_or(2);
        if labels != 1 {
            return Err(unsupported("the number of labels", &labels.to_string(), "a reranker has one, the score"));
        }
        Ok(())
    }

    fn head(&self, backbone: &BackboneConfig) -> Result<Head> {
        let head = |dense, activation, out| Head {
            pooled: Pooled::First,
            dense,
            dense_bias: true,
            activation,
            norm: None,
            out,
        };
        Ok(match backbone.kind() {
            "bert" => head("bert.pooler.dense", Activation::Tanh, "classifier"),
            "roberta" | "xlm-roberta" => head("classifier.dense", Activation::Tanh, "classifier.out_proj"),
            "electra" => head("classifier.dense", Activation::Gelu, "classifier.out_proj"),
            "distilbert" => head("pre_classifier", Activation::Relu, "classifier"),
            "deberta-v2" => {
                if let Some(size) = self.pooler_hidden_size.filter(|size| *size != backbone.hidden_size()) {
                    return Err(unsupported("pooler_hidden_size", &size.to_string(), "it is the hidden_size"));
                }
                let activation = activation("pooler_hidden_act", self.pooler_hidden_act.as_deref())?;
                head("pooler.dense", activation, "classifier")
            }
            "modernbert" => {
                let activation = activation("classifier_activation", self.classifier_activation.as_deref())?;
                let pooled = match self.classifier_pooling.as_deref().unwrap_or("cls") {
                    "cls" => Pooled::First,
                    "mean" => Pooled::Mean,
                    other => return Err(unsupported("classifier_pooling", other, "cls and mean")),
                };
                let norm = Some(("head.norm", self.norm_bias, self.norm_eps.unwrap_or(1e-5)));
                let dense_bias = self.classifier_bias;
                Head { pooled, dense_bias, norm, ..head("head.dense", activation, "classifier") }
            }
            other => {
                let supported =
                    "cross-encoders are bert, roberta, xlm-roberta, electra, distilbert, deberta-v2 or modernbert here";
                return Err(unsupported("model_type", other, supported));
            }
        })
    }

    /// What sentence-transformers makes of the number: what the newest place names that has the key, even if it is null there;
    /// where nothing is named, the sigmoid, as of every single label.
    fn scores(&self, beside: Option<Options>) -> Result<Scores> {
        let named = match (beside, &self.sentence_transformers) {
            (Some(Options { activation_fn: Some(name), .. }), _) => Some(name),
            (_, Some(within)) => within.activation_fn.clone(),
            (_, None) => self.sbert_ce_default_activation_function.clone(),
        };
        match named.as_ref().map(|name| name.rsplit('.').next().unwrap_or(name)) {
            None | Some("Sigmoid") => Ok(Scores::Sigmoid),
            Some("Identity") => Ok(Scores::Raw),
            Some(other) => Err(unsupported("activation_fn", other, "Identity and Sigmoid")),
        }
    }
}
