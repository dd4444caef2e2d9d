//! `config.json` of BERT's families: the shape of the network, in the words of Hugging Face.

use serde::Deserialize;
use serde_json::Value;

use super::{check_heads, check_sizes, disagrees, unsupported};
use crate::batch::Positions;
use crate::error::{Error, Result};
use crate::recipe::Activation;

/// Whose words a config and its tensors use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    /// And XLM-R.
    Roberta,
    Electra,
    DistilBert,
}

/// The part of a `config.json` that decides what is computed; other keys are ignored. DistilBERT has names of its own.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BertConfig {
    pub(crate) vocab_size: usize,
    #[serde(alias = "dim")]
    pub(crate) hidden_size: usize,
    #[serde(alias = "n_layers")]
    pub(crate) num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    pub(crate) num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    /// DistilBERT has no types.
    #[serde(default = "one")]
    pub(crate) type_vocab_size: usize,
    /// DistilBERT's is not in its config.
    #[serde(default = "distilbert_epsilon")]
    pub(crate) layer_norm_eps: f64,
    #[serde(rename = "rotary_emb_base")]
    pub(crate) rotary_base: Option<f64>,
    #[serde(skip, default = "gelu")]
    pub(crate) activation: Activation,
    /// Whether tensors have the names of Jina's XLM-R.
    #[serde(skip)]
    pub(super) flash: bool,
    #[serde(default)]
    model_type: String,
    #[serde(alias = "activation")]
    hidden_act: String,
    position_embedding_type: Option<String>,
    pad_token_id: Option<u32>,
    /// ELECTRA's: values of an embedding, where they are not as many as of a hidden state.
    embedding_size: Option<usize>,
    rotary_emb_fraction: Option<f64>,
    rotary_emb_interleaved: Option<bool>,
    lora_adaptations: Option<Value>,
}

fn one() -> usize {
    1
}

fn distilbert_epsilon() -> f64 {
    1e-12
}

fn gelu() -> Activation {
    Activation::Gelu
}

impl BertConfig {
    /// Reads and checks the `config.json` called `file` of a network of the kind `model_type`; `flash`: of Jina's code.
    pub(super) fn parse(file: &str, json: &[u8], model_type: &str, flash: bool) -> Result<Self> {
        let kind = |source| Error::Json { file: file.into(), source };
        let mut config: Self = serde_json::from_slice(json).map_err(kind)?;
        (config.model_type, config.flash) = (model_type.into(), flash);
        config.check_kind(file)?;
        config.check_sizes(file)?;
        config.activation = activation(file, "hidden_act", &config.hidden_act)?;
        Ok(config)
    }

    /// The kind of network, in the words of Hugging Face.
    pub(super) fn kind(&self) -> &str {
        &self.model_type
    }

    pub(super) fn family(&self) -> Family {
        match self.model_type.as_str() {
            "roberta" | "xlm-roberta" => Family::Roberta,
            "distilbert" => Family::DistilBert,
            "electra" => Family::Electra,
            _ => Family::Bert,
        }
    }

    /// Values of an embedding.
    pub(super) fn embedding_size(&self) -> usize {
        self.embedding_size.unwrap_or(self.hidden_size)
    }

    /// The id of padding, which RoBERTa's positions depend on.
    fn padding(&self) -> u32 {
        self.pad_token_id.unwrap_or(1)
    }

    /// How tokens are counted.
    pub(super) fn counting(&self) -> Positions {
        match self.family() {
            Family::Roberta if self.rotary_base.is_none() => Positions::Behind { padding: self.padding() },
            _ => Positions::Plain,
        }
    }

    /// Tokens that a text may have.
    pub(super) fn positions(&self) -> usize {
        match self.counting() {
            Positions::Plain => self.max_position_embeddings,
            Positions::Behind { padding } => self.max_position_embeddings.saturating_sub(padding as usize + 1),
        }
    }

    fn check_kind(&mut self, file: &str) -> Result<()> {
        const FAMILIES: [&str; 5] = ["bert", "roberta", "xlm-roberta", "electra", "distilbert"];
        if !FAMILIES.contains(&self.model_type.as_str()) {
            let supported = "the encoder computes bert, roberta, xlm-roberta, electra, distilbert and modernbert, and \
                             for cross-encoders deberta-v2";
            return Err(unsupported(file, "model_type", &self.model_type, supported));
        }
        let narrow = self.embedding_size.filter(|size| *size != self.hidden_size && self.model_type != "electra");
        if let Some(size) = narrow {
            let supported = "embeddings are as wide as hidden states";
            return Err(unsupported(file, "embedding_size", &size.to_string(), supported));
        }
        let positions = self.position_embedding_type.as_deref().unwrap_or("absolute");
        match positions {
            "absolute" => self.rotary_base = None,
            "rotary" if self.model_type == "xlm-roberta" => {
                self.flash = true;
                self.rotary_base.get_or_insert(10_000.0);
            }
            _ => {
                let supported = "the encoder computes absolute positions, and rotary ones of xlm-roberta";
                return Err(unsupported(file, "position_embedding_type", positions, supported));
            }
        }
        if let Some(fraction) = self.rotary_emb_fraction.filter(|fraction| *fraction != 1.0) {
            let supported = "all values of a head are rotated";
            return Err(unsupported(file, "rotary_emb_fraction", &fraction.to_string(), supported));
        }
        if self.rotary_emb_interleaved == Some(true) {
            return Err(unsupported(file, "rotary_emb_interleaved", "true", "values are rotated in halves"));
        }
        match self.lora_adaptations.as_ref().filter(|value| !value.is_null()) {
            Some(value) => Err(unsupported(file, "lora_adaptations", &value.to_string(), "there are no adapters")),
            None => Ok(()),
        }
    }

    fn check_sizes(&self, file: &str) -> Result<()> {
        check_sizes(
            file,
            &[
                ("vocab_size", self.vocab_size, 1 << 24),
                ("hidden_size", self.hidden_size, 1 << 16),
                ("embedding_size", self.embedding_size(), 1 << 16),
                ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
                ("num_attention_heads", self.num_attention_heads, 1 << 10),
                ("intermediate_size", self.intermediate_size, 1 << 16),
                ("max_position_embeddings", self.max_position_embeddings, 1 << 20),
                ("type_vocab_size", self.type_vocab_size, 1 << 10),
                ("the number of positions behind pad_token_id", self.positions(), 1 << 20),
            ],
        )?;
        check_heads(file, self.hidden_size, self.num_attention_heads, self.rotary_base.is_some())?;
        check_base(file, "rotary_emb_base", self.rotary_base.unwrap_or(10_000.0))?;
        check_epsilon(file, "layer_norm_eps", self.layer_norm_eps)
    }
}

/// Checks what a norm adds to the variance.
pub(super) fn check_epsilon(file: &str, what: &str, epsilon: f64) -> Result<()> {
    if epsilon > 0.0 && epsilon < 1.0 {
        return Ok(());
    }
    Err(disagrees(file, what, epsilon, "between 0 and 1".into()))
}

/// Checks the base of rotary positions.
pub(super) fn check_base(file: &str, what: &str, base: f64) -> Result<()> {
    if base > 1.0 && base < 1e12 {
        return Ok(());
    }
    Err(disagrees(file, what, base, "more than 1, up to 1e12".into()))
}

/// The activation `name` of a network, in the words of Hugging Face.
pub(super) fn activation(file: &str, what: &str, name: &str) -> Result<Activation> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        _ => Err(unsupported(file, what, name, "the encoder computes gelu, exact or by way of tanh")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(key: &str, value: serde_json::Value) -> Result<BertConfig> {
        let mut config = json!({
            "model_type": "bert", "hidden_act": "gelu", "vocab_size": 30, "hidden_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
            "max_position_embeddings": 48, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "use_cache": true,
        });
        config[key] = value;
        match super::super::BackboneConfig::parse("config.json", config.to_string().as_bytes())? {
            super::super::BackboneConfig::Bert(config) => Ok(config),
            other => panic!("bert was asked for: {other:?}"),
        }
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        assert!(parse("pad_token_id", json!(0)).is_ok());
        for (key, value) in [
            ("model_type", json!("deberta")),
            ("hidden_act", json!("relu")),
            ("position_embedding_type", json!("relative_key")),
            ("position_embedding_type", json!("rotary")),
            ("auto_map", json!({"AutoModel": "modeling.Model"})),
            ("lora_adaptations", json!(["a"])),
            ("is_decoder", json!(true)),
            ("hidden_size", json!(33)),
            ("num_attention_heads", json!(0)),
            ("layer_norm_eps", json!(1.5)),
            ("vocab_size", json!(u64::MAX)),
        ] {
            let text = parse(key, value.clone()).unwrap_err().to_string();
            let value = value.to_string();
            let value = value.trim_matches(['"', '[', ']', '{', '}']).split('"').next().unwrap_or_default();
            assert!(text.starts_with("config.json: ") && text.contains(key) && text.contains(value), "{text}");
        }
        assert!(parse("hidden_size", json!("x")).unwrap_err().to_string().contains("invalid type"));
    }

    #[test]
    fn of_all_code_beside_a_config_only_one_is_known() {
        let code = |config: &str, model: &str| json!({"AutoConfig": config, "AutoModel": model});
        let flash = "configuration_xlm_roberta.XLMRobertaFlashConfig";
        let parse = |kind: serde_json::Value, auto_map: &serde_json::Value| {
            let mut config = json!({
                "hidden_act": "gelu", "vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 48,
                "type_vocab_size": 1, "layer_norm_eps": 1e-5, "auto_map": auto_map,
            });
            if kind.is_string() {
                config["model_type"] = kind;
            }
            super::super::BackboneConfig::parse("config.json", config.to_string().as_bytes())
        };
        let known = code(flash, "modeling_xlm_roberta.XLMRobertaModel");
        for kind in [json!(null), json!("xlm-roberta")] {
            assert_eq!(parse(kind, &known).unwrap().kind(), "xlm-roberta");
        }
        // No code is none of Jina's.
        let plain = parse(json!("xlm-roberta"), &json!({})).unwrap();
        assert!(matches!(plain, super::super::BackboneConfig::Bert(config) if !config.flash));
        for (kind, auto_map, says) in [
            (json!(null), code(flash, "other.Model"), "missing field `model_type`"),
            (json!(null), code("other.Config", "modeling_xlm_roberta.XLMRobertaModel"), "missing field `model_type`"),
            (json!(null), json!(null), "missing field `model_type`"),
            (json!(null), json!({}), "missing field `model_type`"),
            (json!("bert"), known, "is never run"),
            (json!("xlm-roberta"), code(flash, "other/code--modeling_xlm_roberta.XLMRobertaModel"), "is never run"),
        ] {
            let text = parse(kind, &auto_map).unwrap_err().to_string();
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn positions_of_roberta_begin_behind_padding() {
        assert_eq!(parse("model_type", json!("roberta")).unwrap().positions(), 46);
        assert_eq!(parse("model_type", json!("bert")).unwrap().positions(), 48);
    }
}
