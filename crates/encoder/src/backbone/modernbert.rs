//! ModernBERT (Warner et al. 2024, arXiv:2412.13663), for inference.
//!
//! Pre-norm layers, `x = x + attention(norm(x)); x = x + down(gelu(a) * b)`, where `a` and `b` are the halves of
//! `up(norm(x))`; the first layer has no norm before its attention. Positions are rotary, with one base for global
//! layers and another for local ones, in which a token sees those at most half a window away. No biases, unless the
//! config says so.

use burn::prelude::*;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::layers::{LayerNorm, Layers};
use super::rotary::Rotary;
use super::{check_heads, check_sizes, config, disagrees, unsupported};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::ops::{Hidden, Middle, Ops, Precision, Seen, Sight};
use crate::recipe::Activation;
use crate::weights::Weights;

/// The shape of the network.
#[derive(Debug, Clone)]
pub(crate) struct ModernBertConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) max_position_embeddings: usize,
    intermediate_size: usize,
    heads: usize,
    /// What each layer sees.
    layers: Vec<Reach>,
    /// The bases of rotary positions, of global layers and of local ones.
    bases: [f64; 2],
    /// How far a token of a local layer sees, to either side.
    window: usize,
    epsilon: f64,
    norm_bias: bool,
    attention_bias: bool,
    mlp_bias: bool,
    activation: Activation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Reach {
    #[serde(rename = "full_attention")]
    Global,
    #[serde(rename = "sliding_attention")]
    Local,
}

/// `config.json`, in the words of transformers 4 and 5.
#[derive(Deserialize)]
struct Json {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    hidden_activation: String,
    norm_eps: f64,
    #[serde(default)]
    norm_bias: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    local_attention: usize,
    global_attn_every_n_layers: Option<usize>,
    global_rope_theta: Option<f64>,
    local_rope_theta: Option<f64>,
    layer_types: Option<Vec<Reach>>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<Value>,
}

#[derive(Deserialize)]
struct RopeParameters {
    full_attention: Rope,
    sliding_attention: Rope,
}

#[derive(Deserialize)]
struct Rope {
    rope_type: String,
    rope_theta: f64,
}

impl ModernBertConfig {
    /// The most values that a row has within the network.
    pub(super) fn widest(&self) -> usize {
        (3 * self.hidden_size).max(2 * self.intermediate_size)
    }

    /// Number of layers.
    pub(super) fn layer_count(&self) -> usize {
        self.layers.len()
    }

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
                ("max_position_embeddings", json.max_position_embeddings, 1 << 20),
                ("local_attention", json.local_attention, 1 << 20),
                ("global_attn_every_n_layers", json.global_attn_every_n_layers.unwrap_or(3), 1 << 10),
            ],
        )?;
        check_heads(file, json.hidden_size, json.num_attention_heads, true)?;
        if let Some(scaling) = json.rope_scaling.as_ref().filter(|scaling| !scaling.is_null()) {
            return Err(unsupported(file, "rope_scaling", &scaling.to_string(), "rotary positions are not scaled"));
        }
        config::check_epsilon(file, "norm_eps", json.norm_eps)?;
        Ok(Self {
            activation: config::activation(file, "hidden_activation", &json.hidden_activation)?,
            layers: json.reaches(file)?,
            bases: json.bases(file)?,
            vocab_size: json.vocab_size,
            hidden_size: json.hidden_size,
            max_position_embeddings: json.max_position_embeddings,
            intermediate_size: json.intermediate_size,
            heads: json.num_attention_heads,
            window: json.local_attention / 2,
            epsilon: json.norm_eps,
            norm_bias: json.norm_bias,
            attention_bias: json.attention_bias,
            mlp_bias: json.mlp_bias,
        })
    }
}

impl Json {
    fn reaches(&self, file: &str) -> Result<Vec<Reach>> {
        let n = self.num_hidden_layers;
        match &self.layer_types {
            Some(kinds) if kinds.len() != n => {
                Err(disagrees(file, "the length of layer_types", kinds.len(), format!("{n}, the number of layers")))
            }
            Some(kinds) => Ok(kinds.clone()),
            None => {
                let every = self.global_attn_every_n_layers.unwrap_or(3);
                Ok((0..n).map(|at| if at.is_multiple_of(every) { Reach::Global } else { Reach::Local }).collect())
            }
        }
    }

    fn bases(&self, file: &str) -> Result<[f64; 2]> {
        let bases = match &self.rope_parameters {
            Some(RopeParameters { full_attention, sliding_attention }) => {
                if let Some(rope) = [full_attention, sliding_attention].into_iter().find(|r| r.rope_type != "default") {
                    return Err(unsupported(file, "rope_type", &rope.rope_type, "rotary positions are not scaled"));
                }
                [("rope_theta", full_attention.rope_theta), ("rope_theta", sliding_attention.rope_theta)]
            }
            None => [
                ("global_rope_theta", self.global_rope_theta.unwrap_or(160_000.0)),
                ("local_rope_theta", self.local_rope_theta.unwrap_or(10_000.0)),
            ],
        };
        bases.iter().try_for_each(|(what, base)| config::check_base(file, what, *base))?;
        Ok(bases.map(|(_, base)| base))
    }
}

/// One layer.
struct Layer<B: Ops> {
    reach: Reach,
    query_key_value: B::Linear,
    attention_out: B::Linear,
    norm: LayerNorm<B>,
    up: B::Linear,
    middle: Middle,
    down: B::Linear,
    /// What comes next: the norm before the next layer's attention, which the first has none of, or that which ends the network.
    next_norm: LayerNorm<B>,
}

impl<B: Ops> Layer<B> {
    fn load(layers: &Layers<B>, config: &ModernBertConfig, at: usize) -> Result<Self> {
        let (h, wide) = (config.hidden_size, config.intermediate_size);
        let linear = |name: &str, shape, bias| layers.linear(&[format!("layers.{at}.{name}")], shape, bias);
        let norm = |name: &str| config.norm(layers.weights, name, layers.device);
        let next = at + 1;
        let next_norm =
            if next < config.layers.len() { format!("layers.{next}.attn_norm") } else { "final_norm".into() };
        Ok(Self {
            reach: config.layers[at],
            query_key_value: linear("attn.Wqkv", [h, 3 * h], config.attention_bias)?,
            attention_out: linear("attn.Wo", [h, h], config.attention_bias)?,
            norm: norm(&format!("layers.{at}.mlp_norm"))?,
            up: linear("mlp.Wi", [h, 2 * wide], config.mlp_bias)?,
            middle: Middle::Gated(config.activation),
            down: linear("mlp.Wo", [wide, h], config.mlp_bias)?,
            next_norm: norm(&next_norm)?,
        })
    }

    /// What the next layer takes.
    fn forward(&self, x: Hidden<B>, seen: &[Seen<'_, B>; 2]) -> Hidden<B> {
        let x = self.attend(x, seen);
        B::feed_forward_add_then_norm(x, [&self.up, &self.down], self.middle, &self.next_norm)
    }

    /// As the last layer, `[n, h]`.
    fn finish(&self, x: Hidden<B>, seen: &[Seen<'_, B>; 2]) -> Tensor<B, 2> {
        let x = self.attend(x, seen);
        B::feed_forward_add_norm(x, [&self.up, &self.down], self.middle, &self.next_norm).exact
    }

    fn attend(&self, x: Hidden<B>, [global, local]: &[Seen<'_, B>; 2]) -> Hidden<B> {
        let seen = if self.reach == Reach::Global { global } else { local };
        let a = B::self_attention(x.factor, &self.query_key_value, seen);
        B::linear_add_then_norm(a, &self.attention_out, x.exact, &self.norm)
    }
}

/// The network.
pub(crate) struct ModernBert<B: Ops> {
    /// `[vocabulary, h]`
    word: Tensor<B, 2>,
    norm: LayerNorm<B>,
    layers: Vec<Layer<B>>,
    /// Of global layers and of local ones.
    rotary: [Rotary; 2],
    window: usize,
    heads: usize,
}

impl ModernBertConfig {
    fn norm<B: Backend>(&self, weights: &Weights, name: &str, device: &B::Device) -> Result<LayerNorm<B>> {
        LayerNorm::load(weights, name, self.hidden_size, self.norm_bias, self.epsilon, device)
    }
}

impl<B: Ops> ModernBert<B> {
    /// Reads the tensors that `config` implies, under their Hugging Face names.
    pub(super) fn load(
        weights: &Weights,
        config: &ModernBertConfig,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Self> {
        const WORDS: &str = "embeddings.tok_embeddings.weight";
        let weights = &weights.under(&["", "model."], WORDS);
        let shape = [config.vocab_size, config.hidden_size];
        let layers = Layers { weights, precision, device };
        let layer = |at| Layer::load(&layers, config, at);
        Ok(Self {
            word: Tensor::from_data(TensorData::new(weights.read(WORDS, shape)?, shape), device),
            norm: config.norm(weights, "embeddings.norm", device)?,
            layers: (0..config.layers.len()).into_par_iter().map(layer).collect::<Result<_>>()?,
            rotary: config.bases.map(|base| Rotary::new(base, config.hidden_size / config.heads)),
            window: config.window,
            heads: config.heads,
        })
    }

    /// Hidden states `[n, h]` of a batch.
    pub(super) fn forward(&self, batch: &Batch<B>) -> Tensor<B, 2> {
        let [global, local] = &self.rotary;
        let seen = |window, rotary| {
            let (texts, heads) = (&batch.texts, self.heads);
            let sight = Sight { texts, heads, window, rotary: Some(rotary), distances: false };
            Seen::new(sight, self.word.dims()[1], &batch.ids.device())
        };
        let seen = [seen(usize::MAX, global), seen(self.window, local)];
        let x = B::add_norm(B::lookup(self.word.clone(), batch.ids.clone()), None, &self.norm);
        match self.layers.split_last() {
            Some((last, others)) => {
                let x = others.iter().fold(Hidden::from(x), |x, layer| layer.forward(x, &seen));
                last.finish(x, &seen)
            }
            None => x,
        }
    }
}
