//! `config.json`: the shape of the network, in the words of Hugging Face.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::files::CONFIG;

/// The part of a `config.json` that decides what is computed; other keys are ignored.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BertConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) type_vocab_size: usize,
    pub(crate) layer_norm_eps: f64,
    model_type: String,
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

impl BertConfig {
    /// Reads and checks a `config.json`.
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(json).map_err(|source| Error::Json { file: CONFIG, source })?;
        config.check_kind()?;
        config.check_sizes()?;
        Ok(config)
    }

    fn check_kind(&self) -> Result<()> {
        let positions = self.position_embedding_type.as_deref().unwrap_or("absolute");
        let decoder = if self.is_decoder { "true" } else { "false" };
        for (what, found, accepted, supported) in [
            ("model_type", self.model_type.as_str(), &["bert"][..], "the encoder computes bert"),
            ("hidden_act", &self.hidden_act, &["gelu"], "the encoder computes gelu (exact, with erf)"),
            ("position_embedding_type", positions, &["absolute"], "the encoder computes absolute positions"),
            ("is_decoder", decoder, &["false"], "the encoder attends in both directions"),
        ] {
            if !accepted.contains(&found) {
                return Err(Error::Unsupported {
                    file: CONFIG,
                    what: what.into(),
                    found: format!("{found:?}"),
                    supported,
                });
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<()> {
        // Generous bounds: they keep the products of sizes far from overflow.
        for (what, found, max) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 16),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 20),
            ("type_vocab_size", self.type_vocab_size, 1 << 10),
        ] {
            if found == 0 || found > max {
                return Err(disagrees(what, found, format!("1 to {max}")));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a multiple of num_attention_heads, {}", self.num_attention_heads);
            return Err(disagrees("hidden_size", self.hidden_size, expected));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err(disagrees("layer_norm_eps", self.layer_norm_eps, "between 0 and 1".into()));
        }
        Ok(())
    }
}

fn disagrees(what: &str, found: impl ToString, expected: String) -> Error {
    Error::Disagrees { file: CONFIG, what: what.into(), found: found.to_string(), expected }
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
        BertConfig::parse(config.to_string().as_bytes())
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        assert!(parse("pad_token_id", json!(0)).is_ok());
        for (key, value) in [
            ("model_type", json!("modernbert")),
            ("hidden_act", json!("relu")),
            ("position_embedding_type", json!("relative_key")),
            ("is_decoder", json!(true)),
            ("hidden_size", json!(33)),
            ("num_attention_heads", json!(0)),
            ("layer_norm_eps", json!(1.5)),
            ("vocab_size", json!(u64::MAX)),
        ] {
            let text = parse(key, value.clone()).unwrap_err().to_string();
            let value = value.to_string();
            assert!(
                text.starts_with("config.json: ") && text.contains(key) && text.contains(value.trim_matches('"')),
                "{text}"
            );
        }
        assert!(parse("hidden_size", json!("x")).unwrap_err().to_string().contains("invalid type"));
    }
}
