//! The network: BERT (Devlin et al. 2019, arXiv:1810.04805), encoder only, for inference.
//!
//! Token ids `[b, s]` go in, one hidden state for each token comes out, `[b, s, h]`. Each layer is
//! post-norm: `x = norm(x + attention(x)); x = norm(x + down(gelu(up(x))))`. Linear layers see the
//! tokens of a batch as one matrix `[b*s, h]`; only attention knows where a text begins. The three
//! projections of attention are one matrix, `[h, 3h]`, so that they are one product.
//!
//! RoBERTa, XLM-R and DistilBERT compute the same; their tensors have other names ([`Names`]), and their positions
//! are counted otherwise. The XLM-R of jina-colbert-v2 has rotary positions instead of a table.

use burn::prelude::*;
use burn::tensor::module;
use burn::tensor::ops::AttentionModuleOptions;
use rayon::prelude::*;

use super::config::{BertConfig, Family};
use super::layers::{LayerNorm, Linear, activate};
use super::rotary::Rotary;
use crate::batch::Batch;
use crate::error::Result;
use crate::ops::Ops;
use crate::recipe::Activation;
use crate::weights::Weights;

/// What a family of checkpoints calls its tensors.
struct Names {
    /// What may stand before every name: a model with a head keeps the network in a field.
    prefixes: [&'static str; 2],
    embedding_norm: &'static str,
    /// Behind it comes the number of the layer.
    layer: &'static str,
    /// One matrix each, or all in one.
    query_key_value: &'static [&'static str],
    attention_out: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    norm: &'static str,
}

const BERT: Names = Names {
    prefixes: ["", "bert."],
    embedding_norm: "embeddings.LayerNorm",
    layer: "encoder.layer",
    query_key_value: &["attention.self.query", "attention.self.key", "attention.self.value"],
    attention_out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
};
const ROBERTA: Names = Names { prefixes: ["", "roberta."], ..BERT };
const DISTILBERT: Names = Names {
    prefixes: ["", "distilbert."],
    layer: "transformer.layer",
    query_key_value: &["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    attention_out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
    ..BERT
};
/// jina-colbert-v2's.
const ROTARY: Names = Names {
    embedding_norm: "emb_ln",
    layer: "encoder.layers",
    query_key_value: &["mixer.Wqkv"],
    attention_out: "mixer.out_proj",
    attention_norm: "norm1",
    up: "mlp.fc1",
    down: "mlp.fc2",
    norm: "norm2",
    ..ROBERTA
};

impl BertConfig {
    fn names(&self) -> &'static Names {
        match self.family() {
            _ if self.rotary_base.is_some() => &ROTARY,
            Family::Bert => &BERT,
            Family::Roberta => &ROBERTA,
            Family::DistilBert => &DISTILBERT,
        }
    }
}

/// What the parts of a network are read from.
struct Source<'a, B: Backend> {
    weights: Weights<'a>,
    names: &'static Names,
    config: &'a BertConfig,
    device: &'a B::Device,
}

impl<B: Backend> Source<'_, B> {
    fn norm(&self, name: &str) -> Result<LayerNorm<B>> {
        LayerNorm::load(&self.weights, name, self.config.hidden_size, true, self.config.layer_norm_eps, self.device)
    }

    /// The table `name`, `[rows, h]`.
    fn table(&self, name: &str, rows: usize) -> Result<Tensor<B, 2>> {
        let shape = [rows, self.config.hidden_size];
        let values = self.weights.read(&format!("embeddings.{name}_embeddings.weight"), shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }
}

/// What a token starts from: its word, its position, and text type 0.
struct Embeddings<B: Backend> {
    /// `[vocabulary, h]`
    word: Tensor<B, 2>,
    /// `[positions, h]`, or `[1, h]` without positions; the vector of type 0 added to each.
    position: Tensor<B, 2>,
    norm: LayerNorm<B>,
    rotary: bool,
}

impl<B: Backend> Embeddings<B> {
    fn load(from: &Source<B>) -> Result<Self> {
        let config = from.config;
        let rotary = config.rotary_base.is_some();
        let types = || Ok(from.table("token_type", config.type_vocab_size)?.narrow(0, 0, 1));
        let positions = || from.table("position", config.max_position_embeddings);
        let position = match config.family() {
            _ if rotary => types()?,
            Family::DistilBert => positions()?,
            Family::Bert | Family::Roberta => {
                let types = types()?;
                positions()? + types
            }
        };
        Ok(Self {
            word: from.table("word", config.vocab_size)?,
            position,
            norm: from.norm(from.names.embedding_norm)?,
            rotary,
        })
    }

    /// `[b*s, h]`.
    fn forward(&self, batch: &Batch<B>) -> Tensor<B, 2> {
        let [b, s] = batch.ids.dims();
        let words = module::embedding(self.word.clone(), batch.ids.clone());
        let x = match &batch.positions {
            Some(positions) => words + module::embedding(self.position.clone(), positions.clone()),
            None if self.rotary => words + self.position.clone().unsqueeze::<3>(),
            None => words + self.position.clone().narrow(0, 0, s).unsqueeze::<3>(),
        };
        let h = x.dims()[2];
        self.norm.forward(x.reshape([b * s, h]))
    }
}

/// One layer: attention, then two linear layers with a GELU between, each added to its input and normalised.
struct Layer<B: Backend> {
    query_key_value: Linear<B>,
    attention_out: Linear<B>,
    attention_norm: LayerNorm<B>,
    up: Linear<B>,
    activation: Activation,
    down: Linear<B>,
    norm: LayerNorm<B>,
    heads: usize,
}

impl<B: Ops> Layer<B> {
    fn load(from: &Source<B>, at: usize) -> Result<Self> {
        let (names, config) = (from.names, from.config);
        let (h, wide) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("{}.{at}.{part}", names.layer);
        let linear = |part: &str, shape| Linear::load(&from.weights, &[name(part)], shape, true, from.device);
        let attention: Vec<String> = names.query_key_value.iter().map(|part| name(part)).collect();
        let shape = [h, 3 * h / attention.len()];
        Ok(Self {
            query_key_value: Linear::load(&from.weights, &attention, shape, true, from.device)?,
            attention_out: linear(names.attention_out, [h, h])?,
            attention_norm: from.norm(&name(names.attention_norm))?,
            up: linear(names.up, [h, wide])?,
            activation: config.activation,
            down: linear(names.down, [wide, h])?,
            norm: from.norm(&name(names.norm))?,
            heads: config.num_attention_heads,
        })
    }

    /// `x` is `[b*s, h]`.
    fn forward(&self, x: Tensor<B, 2>, seen: &Seen<B>) -> Tensor<B, 2> {
        let a = self.attention(x.clone(), seen);
        let x = self.attention_norm.forward(self.attention_out.forward(a) + x);
        let wide = activate(self.activation, self.up.forward(x.clone()));
        self.norm.forward(self.down.forward(wide) + x)
    }

    /// `softmax(q k^T / sqrt(h / heads)) v` in each head; `[b*s, h]` to `[b*s, h]`.
    fn attention(&self, x: Tensor<B, 2>, seen: &Seen<B>) -> Tensor<B, 2> {
        let [b, s] = seen.shape;
        let [q, k, v] = B::split_heads(self.query_key_value.forward(x), [b, s, self.heads]);
        let [q, k] = match &seen.rotary {
            Some(rotary) => [q, k].map(|x| rotary.turn(x)),
            None => [q, k],
        };
        B::merge_heads(module::attention(q, k, v, seen.mask.clone(), None, AttentionModuleOptions::default()))
    }
}

/// What attention knows of a batch.
struct Seen<B: Backend> {
    /// `[b, s]`
    shape: [usize; 2],
    /// `[b, 1, s, s]`, true where a token (third axis) does not see another (fourth).
    mask: Option<Tensor<B, 4, Bool>>,
    rotary: Option<Rotary<B>>,
}

/// The network.
pub(crate) struct Bert<B: Backend> {
    embeddings: Embeddings<B>,
    layers: Vec<Layer<B>>,
    /// The base of rotary positions, and the values of a head.
    rotary: Option<(f64, usize)>,
}

impl<B: Ops> Bert<B> {
    /// Reads the tensors that `config` implies, under their Hugging Face names.
    pub(crate) fn load(weights: &Weights, config: &BertConfig, device: &B::Device) -> Result<Self> {
        let names = config.names();
        let weights = weights.under(&names.prefixes, "embeddings.word_embeddings.weight");
        let source = Source::<B> { weights, names, config, device };
        let (embeddings, layers) = rayon::join(
            || Embeddings::load(&source),
            || (0..config.num_hidden_layers).into_par_iter().map(|at| Layer::load(&source, at)).collect::<Result<_>>(),
        );
        let width = config.hidden_size / config.num_attention_heads;
        Ok(Self { embeddings: embeddings?, layers: layers?, rotary: config.rotary_base.map(|base| (base, width)) })
    }

    /// Hidden states `[b, s, h]` of a batch, `s` at most the number of positions.
    ///
    /// No token attends to padding; the rows at padding are values without meaning.
    pub(crate) fn forward(&self, batch: &Batch<B>) -> Tensor<B, 3> {
        let [b, s] = batch.ids.dims();
        let seen = Seen {
            shape: [b, s],
            mask: batch.padding.clone().map(|p| p.reshape([b, 1, 1, s]).expand([b, 1, s, s])),
            rotary: self.rotary.map(|(base, width)| Rotary::new(base, [s, width], &batch.ids.device())),
        };
        let x = self.layers.iter().fold(self.embeddings.forward(batch), |x, layer| layer.forward(x, &seen));
        let h = x.dims()[1];
        x.reshape([b, s, h])
    }
}
