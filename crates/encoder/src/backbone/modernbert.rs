//! ModernBERT (Warner et al. 2024, arXiv:2412.13663), for inference.
//!
//! Pre-norm layers, `x = x + attention(norm(x)); x = x + down(gelu(a) * b)`, where `a` and `b` are the halves of
//! `up(norm(x))`; the first layer has no norm before its attention. Positions are rotary, with one base for global
//! layers and another for local ones, in which a token sees those at most half a window away. No biases, unless the
//! config says so.

use burn::prelude::*;
use burn::tensor::module;
use burn::tensor::ops::AttentionModuleOptions;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::layers::{LayerNorm, Linear, activate};
use super::rotary::Rotary;
use super::{check_heads, check_sizes, config, disagrees, unsupported};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::ops::Ops;
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
                ("intermediate_size", json.intermediate_size, 1 << 20),
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
struct Layer<B: Backend> {
    reach: Reach,
    attention_norm: Option<LayerNorm<B>>,
    query_key_value: Linear<B>,
    attention_out: Linear<B>,
    norm: LayerNorm<B>,
    up: Linear<B>,
    activation: Activation,
    down: Linear<B>,
    heads: usize,
}

impl<B: Ops> Layer<B> {
    fn load(weights: &Weights, config: &ModernBertConfig, at: usize, device: &B::Device) -> Result<Self> {
        let (h, wide) = (config.hidden_size, config.intermediate_size);
        let linear =
            |name: &str, shape, bias| Linear::load(weights, &[format!("layers.{at}.{name}")], shape, bias, device);
        let norm = |name: &str| config.norm(weights, &format!("layers.{at}.{name}"), device);
        Ok(Self {
            reach: config.layers[at],
            attention_norm: if at == 0 { None } else { Some(norm("attn_norm")?) },
            query_key_value: linear("attn.Wqkv", [h, 3 * h], config.attention_bias)?,
            attention_out: linear("attn.Wo", [h, h], config.attention_bias)?,
            norm: norm("mlp_norm")?,
            up: linear("mlp.Wi", [h, 2 * wide], config.mlp_bias)?,
            activation: config.activation,
            down: linear("mlp.Wo", [wide, h], config.mlp_bias)?,
            heads: config.heads,
        })
    }

    /// `x` is `[b*s, h]`.
    fn forward(&self, x: Tensor<B, 2>, [global, local]: &[Seen<B>; 2]) -> Tensor<B, 2> {
        let seen = if self.reach == Reach::Global { global } else { local };
        let normed = self.attention_norm.as_ref().map_or_else(|| x.clone(), |norm| norm.forward(x.clone()));
        let x = x + self.attention_out.forward(self.attention(normed, seen));
        let up = self.up.forward(self.norm.forward(x.clone()));
        let wide = up.dims()[1] / 2;
        let gate = up.clone().narrow(1, wide, wide);
        x + self.down.forward(activate(self.activation, up.narrow(1, 0, wide)) * gate)
    }

    /// Rotary attention in each head; `[b*s, h]` to `[b*s, h]`.
    fn attention(&self, x: Tensor<B, 2>, seen: &Seen<B>) -> Tensor<B, 2> {
        let [b, s] = seen.shape;
        let [q, k, v] = B::split_heads(self.query_key_value.forward(x), [b, s, self.heads]);
        let (q, k) = (seen.rotary.turn(q), seen.rotary.turn(k));
        let a = B::merge_heads(module::attention(q, k, v, seen.mask.clone(), None, AttentionModuleOptions::default()));
        match &seen.blind {
            Some(blind) => {
                let width = a.dims()[1];
                a.mask_fill(blind.clone().expand([b * s, width]), 0.0)
            }
            None => a,
        }
    }
}

/// What attention of one reach knows of a batch.
struct Seen<B: Backend> {
    /// `[b, s]`
    shape: [usize; 2],
    /// `[b, 1, s, s]`, true where a token (third axis) does not see another (fourth).
    mask: Option<Tensor<B, 4, Bool>>,
    /// `[b*s, 1]`, true for tokens that see none at all: nothing is added to them. A token that expands a query is so
    /// when the text ends more than half a window before it.
    blind: Option<Tensor<B, 2, Bool>>,
    rotary: Rotary<B>,
}

impl<B: Backend> Seen<B> {
    /// `window`: how far tokens see, to either side.
    fn new(batch: &Batch<B>, window: usize, rotary: Rotary<B>) -> Self {
        let [b, s] = batch.ids.dims();
        let mut seen = Self { shape: [b, s], mask: None, blind: None, rotary };
        if batch.attended.iter().all(|n| *n == s) && window + 1 >= s {
            return seen;
        }
        let device = &batch.ids.device();
        let hidden = |n: usize, i: usize| (0..s).map(move |j| j >= n || i.abs_diff(j) > window);
        let mask: Vec<bool> = batch.attended.iter().flat_map(|n| (0..s).flat_map(move |i| hidden(*n, i))).collect();
        let blind: Vec<bool> = mask.chunks_exact(s).map(|row| row.iter().all(|hidden| *hidden)).collect();
        if blind.contains(&true) {
            seen.blind = Some(Tensor::from_data(TensorData::new(blind, [b * s, 1]), device));
        }
        seen.mask = Some(Tensor::from_data(TensorData::new(mask, [b, 1, s, s]), device));
        seen
    }
}

/// The network.
pub(crate) struct ModernBert<B: Backend> {
    /// `[vocabulary, h]`
    word: Tensor<B, 2>,
    norm: LayerNorm<B>,
    layers: Vec<Layer<B>>,
    final_norm: LayerNorm<B>,
    bases: [f64; 2],
    window: usize,
    /// Values of a head.
    width: usize,
}

impl ModernBertConfig {
    fn norm<B: Backend>(&self, weights: &Weights, name: &str, device: &B::Device) -> Result<LayerNorm<B>> {
        LayerNorm::load(weights, name, self.hidden_size, self.norm_bias, self.epsilon, device)
    }
}

impl<B: Ops> ModernBert<B> {
    /// Reads the tensors that `config` implies, under their Hugging Face names.
    pub(super) fn load(weights: &Weights, config: &ModernBertConfig, device: &B::Device) -> Result<Self> {
        const WORDS: &str = "embeddings.tok_embeddings.weight";
        let weights = &weights.under(&["", "model."], WORDS);
        let shape = [config.vocab_size, config.hidden_size];
        let layer = |at| Layer::load(weights, config, at, device);
        Ok(Self {
            word: Tensor::from_data(TensorData::new(weights.read(WORDS, shape)?, shape), device),
            norm: config.norm(weights, "embeddings.norm", device)?,
            layers: (0..config.layers.len()).into_par_iter().map(layer).collect::<Result<_>>()?,
            final_norm: config.norm(weights, "final_norm", device)?,
            bases: config.bases,
            window: config.window,
            width: config.hidden_size / config.heads,
        })
    }

    /// Hidden states `[b, s, h]` of a batch. The rows at padding are values without meaning.
    pub(super) fn forward(&self, batch: &Batch<B>) -> Tensor<B, 3> {
        let [b, s] = batch.ids.dims();
        let rotary = |base| Rotary::new(base, [s, self.width], &batch.ids.device());
        let [global, local] = self.bases.map(rotary);
        let seen = [Seen::new(batch, s, global), Seen::new(batch, self.window, local)];
        let words = module::embedding(self.word.clone(), batch.ids.clone());
        let h = words.dims()[2];
        let x = self.norm.forward(words.reshape([b * s, h]));
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x, &seen));
        self.final_norm.forward(x).reshape([b, s, h])
    }
}
