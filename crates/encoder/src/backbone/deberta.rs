//! DeBERTa, versions 2 and 3 (He et al. 2020, arXiv:2006.03654, and 2021, arXiv:2111.09543), for inference.
//!
//! BERT's layers, but for attention: a token knows no position of its own. How well it sees another depends on what they say,
//! on what the one says and the distance, and on the distance and what the other says:
//!
//! `score[i][j] = (q[i] k[j] + q[i] K[i - j] + Q[i - j] k[j]) / sqrt(3 width)`
//!
//! where `Q` and `K` are a table of distances, put through the layer's own projections. That is done once, on loading; and
//! queries are divided by `sqrt(3)` there, so that attention scales as any other does.

use burn::prelude::*;
use rayon::prelude::*;
use serde::Deserialize;

use super::distances::{Buckets, Distances};
use super::layers::{LayerNorm, Layers};
use super::{check_heads, check_sizes, config, disagrees, unsupported};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::ops::{DistanceSource, Hidden, Middle, Ops, Precision, Seen, Sight};
use crate::recipe::Activation;
use crate::weights::Weights;

/// Values of the vectors of distances, of all layers: ten times those of the largest published network.
const MOST_KEPT: usize = 1 << 30;

/// The shape of the network.
#[derive(Debug, Clone)]
pub(crate) struct DebertaConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    heads: usize,
    epsilon: f64,
    activation: Activation,
    /// Half of the rows of the table of distances.
    span: usize,
    buckets: Option<Buckets>,
    /// Whether the table is normalised.
    normed: bool,
}

/// `config.json`, in the words of Hugging Face.
#[derive(Deserialize)]
struct Json {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    layer_norm_eps: f64,
    hidden_act: String,
    #[serde(default)]
    relative_attention: bool,
    max_relative_positions: Option<i64>,
    position_buckets: Option<i64>,
    norm_rel_ebd: Option<String>,
    #[serde(default)]
    share_att_key: bool,
    pos_att_type: Option<Attends>,
    position_biased_input: Option<bool>,
    #[serde(default)]
    type_vocab_size: usize,
    embedding_size: Option<usize>,
    attention_head_size: Option<usize>,
    conv_kernel_size: Option<usize>,
}

/// `"p2c|c2p"`, or the same as a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Attends {
    Together(String),
    Each(Vec<String>),
}

impl Attends {
    /// Whether both are there, of a position to what is said and the other way round.
    fn both(&self) -> bool {
        let parts: Vec<&str> = match self {
            Self::Together(text) => text.split('|').map(str::trim).collect(),
            Self::Each(parts) => parts.iter().map(String::as_str).collect(),
        };
        ["p2c", "c2p"].iter().all(|part| parts.iter().any(|has| has.eq_ignore_ascii_case(part)))
    }
}

impl DebertaConfig {
    /// Reads and checks the `config.json` called `file`.
    pub(super) fn parse(file: &str, json: &[u8]) -> Result<Self> {
        let json: Json = serde_json::from_slice(json).map_err(|source| Error::Json { file: file.into(), source })?;
        check_sizes(
            file,
            &[
                ("vocab_size", json.vocab_size, 1 << 24),
                ("hidden_size", json.hidden_size, 1 << 16),
                ("num_hidden_layers", json.num_hidden_layers, 1 << 10),
                ("num_attention_heads", json.num_attention_heads, 1 << 10),
                ("intermediate_size", json.intermediate_size, 1 << 16),
                ("max_position_embeddings", json.max_position_embeddings, 1 << 13),
            ],
        )?;
        // Each layer keeps two vectors for each distance to either side. None of these is near the limits of a product.
        let kept = 4 * json.max_position_embeddings * json.hidden_size * json.num_hidden_layers;
        if kept > MOST_KEPT {
            let what = "max_position_embeddings times hidden_size times num_hidden_layers";
            return Err(disagrees(file, what, kept / 4, format!("at most {}", MOST_KEPT / 4)));
        }
        check_heads(file, json.hidden_size, json.num_attention_heads, false)?;
        config::check_epsilon(file, "layer_norm_eps", json.layer_norm_eps)?;
        json.check_kind(file)?;
        let (span, buckets) = json.distances(file)?;
        let normed = match json.norm_rel_ebd.as_deref().unwrap_or("none").trim() {
            "layer_norm" => true,
            "none" => false,
            other => return Err(unsupported(file, "norm_rel_ebd", other, "layer_norm and none")),
        };
        Ok(Self {
            activation: config::activation(file, "hidden_act", &json.hidden_act)?,
            vocab_size: json.vocab_size,
            hidden_size: json.hidden_size,
            num_hidden_layers: json.num_hidden_layers,
            intermediate_size: json.intermediate_size,
            max_position_embeddings: json.max_position_embeddings,
            heads: json.num_attention_heads,
            epsilon: json.layer_norm_eps,
            span,
            buckets,
            normed,
        })
    }
}

impl Json {
    /// Refuses what published models of versions 2 and 3 do not have, or the largest of version 2 alone.
    fn check_kind(&self, file: &str) -> Result<()> {
        let refused =
            |what: &str, found: &dyn ToString, supported| Err(unsupported(file, what, &found.to_string(), supported));
        if !self.relative_attention {
            return refused("relative_attention", &false, "tokens know distances");
        }
        if !self.share_att_key {
            return refused("share_att_key", &false, "distances go through the projections of queries and keys");
        }
        if !self.pos_att_type.as_ref().is_some_and(Attends::both) {
            return refused("pos_att_type", &"other", "p2c and c2p, both");
        }
        if self.position_biased_input != Some(false) {
            return refused("position_biased_input", &true, "tokens know distances only");
        }
        if self.type_vocab_size != 0 {
            return refused("type_vocab_size", &self.type_vocab_size, "0");
        }
        let width = self.hidden_size / self.num_attention_heads;
        for (what, found, expected) in [
            ("embedding_size", self.embedding_size, self.hidden_size),
            ("attention_head_size", self.attention_head_size, width),
            ("conv_kernel_size", self.conv_kernel_size, 0),
        ] {
            if let Some(found) = found.filter(|found| *found != expected) {
                return refused(what, &found, "embeddings and heads of the usual sizes, and no convolution");
            }
        }
        Ok(())
    }

    /// Half of the rows of the table, and how distances are put into it.
    fn distances(&self, file: &str) -> Result<(usize, Option<Buckets>)> {
        let positive = |value: Option<i64>| value.filter(|value| *value > 0).map(|value| value as usize);
        let furthest = positive(self.max_relative_positions).unwrap_or(self.max_position_embeddings);
        let buckets = positive(self.position_buckets).map(|count| Buckets { count, furthest });
        let span = buckets.map_or(furthest, |buckets| buckets.count);
        check_sizes(file, &[("max_relative_positions", furthest, 1 << 20), ("position_buckets", span, 1 << 20)])?;
        match buckets {
            Some(Buckets { count, .. }) if count < 2 || furthest <= count / 2 + 1 => {
                let expected = format!("2 to {}, with {furthest} positions", (2 * furthest).saturating_sub(3));
                Err(disagrees(file, "position_buckets", count, expected))
            }
            _ => Ok((span, buckets)),
        }
    }
}

/// What the parts of a network are read from.
struct Source<'a, B: Ops> {
    layers: Layers<'a, B>,
    config: &'a DebertaConfig,
    /// `[2 * span, h]`
    table: Tensor<B, 2>,
    /// Rows of the table for distances from the least to the most; and from the most to the least.
    rows: [Tensor<B, 1, Int>; 2],
}

impl<'a, B: Ops> Source<'a, B> {
    fn new(layers: Layers<'a, B>, config: &'a DebertaConfig) -> Result<Self> {
        let (weights, device) = (layers.weights, layers.device);
        let shape = [2 * config.span, config.hidden_size];
        let values = weights.read("encoder.rel_embeddings.weight", shape)?;
        let table = Tensor::from_data(TensorData::new(values, shape), device);
        let distances = Distances::new(config.max_position_embeddings, config.span, config.buckets);
        let ints = |rows: Vec<i32>| {
            let count = rows.len();
            Tensor::from_data(TensorData::new(rows, [count]), device)
        };
        let falling = distances.rows().iter().rev().copied().collect();
        let rows = [distances.rows().to_vec(), falling].map(ints);
        let table = match config.normed {
            true => B::add_norm(table, None, &config.norm(weights, "encoder.LayerNorm", device)?),
            false => table,
        };
        Ok(Self { layers, config, table, rows })
    }
}

impl DebertaConfig {
    fn norm<B: Backend>(&self, weights: &Weights, name: &str, device: &B::Device) -> Result<LayerNorm<B>> {
        LayerNorm::load(weights, name, self.hidden_size, true, self.epsilon, device)
    }
}

/// One layer.
struct Layer<B: Ops> {
    query_key_value: B::Linear,
    distances: B::Distances,
    attention_out: B::Linear,
    attention_norm: LayerNorm<B>,
    up: B::Linear,
    middle: Middle,
    down: B::Linear,
    norm: LayerNorm<B>,
}

impl<B: Ops> Layer<B> {
    fn load(from: &Source<B>, at: usize) -> Result<Self> {
        let (layers, config) = (&from.layers, from.config);
        let (h, wide) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{at}.{part}");
        let linear = |part: &str, shape| layers.linear(&[name(part)], shape, true);
        let norm = |part: &str| config.norm(layers.weights, &name(part), layers.device);
        let projections = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}_proj")));
        let third = 1.0 / 3f32.sqrt();
        Ok(Self {
            query_key_value: layers.first_times(third, &projections, [h, h], true)?,
            distances: Self::distances(from, third, &projections[..2])?,
            attention_out: linear("attention.output.dense", [h, h])?,
            attention_norm: norm("attention.output.LayerNorm")?,
            up: linear("intermediate.dense", [h, wide])?,
            middle: Middle::Plain(config.activation),
            down: linear("output.dense", [wide, h])?,
            norm: norm("output.LayerNorm")?,
        })
    }

    /// The table of distances as queries and keys of this layer.
    fn distances(from: &Source<B>, factor: f32, query_key: &[String]) -> Result<B::Distances> {
        let (layers, h) = (&from.layers, from.config.hidden_size);
        let exact = Layers::<B> { weights: layers.weights, precision: Precision::F32, device: layers.device };
        let projection = exact.first_times(factor, query_key, [h, h], true)?;
        let table = B::linear_layer(from.table.clone(), &projection, Activation::Identity);
        let [rising, falling] = from.rows.clone();
        let queries = B::lookup(table.clone().narrow(1, 0, h), rising);
        let keys = B::lookup(table.narrow(1, h, h), falling);
        let (heads, precision) = (from.config.heads, layers.precision);
        Ok(B::pack_distances(DistanceSource { queries, keys, heads, precision }))
    }

    fn forward(&self, x: Hidden<B>, seen: &Seen<'_, B>) -> Hidden<B> {
        let a = B::distance_attention(x.factor, &self.query_key_value, &self.distances, seen);
        let x = B::linear_add_norm(a, &self.attention_out, x.exact, &self.attention_norm);
        B::feed_forward_add_norm(x, [&self.up, &self.down], self.middle, &self.norm)
    }
}

/// The network.
pub(crate) struct Deberta<B: Ops> {
    /// `[vocabulary, h]`
    word: Tensor<B, 2>,
    norm: LayerNorm<B>,
    layers: Vec<Layer<B>>,
    heads: usize,
}

impl<B: Ops> Deberta<B> {
    /// Reads the tensors that `config` implies, under their Hugging Face names.
    pub(super) fn load(
        weights: &Weights,
        config: &DebertaConfig,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Self> {
        const WORDS: &str = "embeddings.word_embeddings.weight";
        let weights = &weights.under(&["", "deberta."], WORDS);
        let source = Source::new(Layers { weights, precision, device }, config)?;
        let shape = [config.vocab_size, config.hidden_size];
        let layer = |at| Layer::load(&source, at);
        Ok(Self {
            word: Tensor::from_data(TensorData::new(weights.read(WORDS, shape)?, shape), device),
            norm: config.norm(weights, "embeddings.LayerNorm", device)?,
            layers: (0..config.num_hidden_layers).into_par_iter().map(layer).collect::<Result<_>>()?,
            heads: config.heads,
        })
    }

    /// Hidden states `[n, h]` of a batch, whose texts have at most as many tokens as there are positions.
    pub(super) fn forward(&self, batch: &Batch<B>) -> Tensor<B, 2> {
        let (texts, heads) = (&batch.texts, self.heads);
        let sight = Sight { texts, heads, window: usize::MAX, rotary: None, distances: true };
        let seen = Seen::new(sight, self.word.dims()[1], &batch.ids.device());
        let x = Hidden::from(B::add_norm(B::lookup(self.word.clone(), batch.ids.clone()), None, &self.norm));
        self.layers.iter().fold(x, |x, layer| layer.forward(x, &seen)).exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(key: &str, value: serde_json::Value) -> Result<DebertaConfig> {
        let mut config = json!({
            "hidden_act": "gelu", "vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "max_position_embeddings": 48, "layer_norm_eps": 1e-7, "relative_attention": true,
            "position_buckets": 8, "max_relative_positions": -1, "norm_rel_ebd": "layer_norm", "share_att_key": true,
            "pos_att_type": "p2c|c2p", "position_biased_input": false, "type_vocab_size": 0, "use_cache": true,
        });
        config[key] = value;
        DebertaConfig::parse("config.json", config.to_string().as_bytes())
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        let config = parse("pos_att_type", json!(["c2p", "p2c"])).unwrap();
        assert_eq!((config.span, config.buckets), (8, Some(Buckets { count: 8, furthest: 48 })));
        assert_eq!(parse("position_buckets", json!(-1)).unwrap().span, 48);
        for (key, value) in [
            ("hidden_act", json!("relu")),
            ("relative_attention", json!(false)),
            ("share_att_key", json!(false)),
            ("pos_att_type", json!("c2p")),
            ("pos_att_type", json!(null)),
            ("position_biased_input", json!(null)),
            ("type_vocab_size", json!(2)),
            ("embedding_size", json!(16)),
            ("attention_head_size", json!(64)),
            ("conv_kernel_size", json!(3)),
            ("norm_rel_ebd", json!("batch_norm")),
            ("position_buckets", json!(1)),
            ("position_buckets", json!(94)),
            ("position_buckets", json!(i64::MAX)),
            ("max_relative_positions", json!(i64::MAX)),
            ("max_position_embeddings", json!(1 << 20)),
            ("num_hidden_layers", json!(1 << 20)),
            ("layer_norm_eps", json!(0.0)),
            ("num_attention_heads", json!(5)),
        ] {
            let text = parse(key, value.clone()).unwrap_err().to_string();
            // A number of heads is blamed on what they divide.
            let key = if key == "num_attention_heads" { "hidden_size" } else { key };
            assert!(text.starts_with("config.json: ") && text.contains(key), "{value}: {text}");
        }
    }
}
