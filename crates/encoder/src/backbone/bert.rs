//! The network: BERT (Devlin et al. 2019, arXiv:1810.04805), encoder only, for inference.
//!
//! Token ids `[n]` go in, one hidden state for each token comes out, `[n, h]`. Each layer is
//! post-norm: `x = norm(x + attention(x)); x = norm(x + down(gelu(up(x))))`. The three
//! projections of attention are one matrix, `[h, 3h]`, so that they are one product.
//!
//! RoBERTa, XLM-R, ELECTRA and DistilBERT compute the same; their tensors have other names ([`Names`]), and their positions
//! are counted otherwise. The XLM-R of jina-colbert-v2 has rotary positions instead of a table; ELECTRA's embeddings may be
//! narrower than its hidden states, `[n, e]`, and are projected.

use burn::prelude::*;
use rayon::prelude::*;

use super::config::{BertConfig, Family};
use super::layers::{LayerNorm, Layers};
use super::rotary::Rotary;
use crate::batch::Batch;
use crate::error::Result;
use crate::ops::{Hidden, Middle, Ops, Precision, Seen, Sight};
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
const ELECTRA: Names = Names { prefixes: ["", "electra."], ..BERT };
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
/// Those of jina-colbert-v2 and jina-reranker-v2.
const FLASH: Names = Names {
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
            _ if self.flash => &FLASH,
            Family::Bert => &BERT,
            Family::Roberta => &ROBERTA,
            Family::Electra => &ELECTRA,
            Family::DistilBert => &DISTILBERT,
        }
    }
}

/// What the parts of a network are read from.
struct Source<'a, B: Backend> {
    weights: &'a Weights<'a>,
    names: &'static Names,
    config: &'a BertConfig,
    precision: Precision,
    device: &'a B::Device,
}

impl<B: Backend> Source<'_, B> {
    /// The norm `name` of rows of `width` values.
    fn norm(&self, name: &str, width: usize) -> Result<LayerNorm<B>> {
        LayerNorm::load(self.weights, name, width, true, self.config.layer_norm_eps, self.device)
    }

    /// The table `name`, `[rows, e]`.
    fn table(&self, name: &str, rows: usize) -> Result<Tensor<B, 2>> {
        let shape = [rows, self.config.embedding_size()];
        let values = self.weights.read(&format!("embeddings.{name}_embeddings.weight"), shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }
}

/// What a token starts from: its word, its position, and the type of its text.
struct Embeddings<B: Ops> {
    /// `[vocabulary, e]`
    word: Tensor<B, 2>,
    /// `[positions, e]`, or `[1, e]` without positions; the vector of type 0 added to each.
    position: Tensor<B, 2>,
    /// `[1, e]`: how the vector of type 1, that of the second of two texts, differs from that of type 0.
    second: Option<Tensor<B, 2>>,
    norm: LayerNorm<B>,
    rotary: bool,
    /// From `e` values to `h`, where they differ.
    projection: Option<B::Linear>,
}

impl<B: Ops> Embeddings<B> {
    fn load(from: &Source<B>) -> Result<Self> {
        let config = from.config;
        let rotary = config.rotary_base.is_some();
        let positions = || from.table("position", config.max_position_embeddings);
        let types = match config.family() {
            Family::DistilBert => None,
            Family::Bert | Family::Roberta | Family::Electra => Some(from.table("token_type", config.type_vocab_size)?),
        };
        let of_type = |number| types.as_ref().map(|types| types.clone().narrow(0, number, 1));
        let second = (config.type_vocab_size > 1).then(|| Some(of_type(1)? - of_type(0)?)).flatten();
        let position = match of_type(0) {
            Some(first) if rotary => first,
            Some(first) => positions()? + first,
            None => positions()?,
        };
        let (narrow, wide) = (config.embedding_size(), config.hidden_size);
        let layers = Layers::<B> { weights: from.weights, precision: from.precision, device: from.device };
        let projection = || layers.linear(&["embeddings_project".into()], [narrow, wide], true);
        Ok(Self {
            word: from.table("word", config.vocab_size)?,
            position,
            second,
            norm: from.norm(from.names.embedding_norm, narrow)?,
            rotary,
            projection: (narrow != wide).then(projection).transpose()?,
        })
    }

    /// `[n, h]`.
    fn forward(&self, batch: &Batch<B>) -> Tensor<B, 2> {
        let words = B::lookup(self.word.clone(), batch.ids.clone());
        let positions = match self.rotary {
            true => self.position.clone().expand(words.dims()),
            false => B::lookup(self.position.clone(), batch.positions.clone()),
        };
        let positions = match (&self.second, &batch.second) {
            (Some(differs), Some(second)) => positions + second.clone() * differs.clone(),
            _ => positions,
        };
        let x = B::add_norm(words, Some(positions), &self.norm);
        match &self.projection {
            Some(layer) => B::linear_layer(x, layer, Activation::Identity),
            None => x,
        }
    }
}

/// One layer: attention, then two linear layers with an activation between, each added to its input and normalised.
struct Layer<B: Ops> {
    query_key_value: B::Linear,
    attention_out: B::Linear,
    attention_norm: LayerNorm<B>,
    up: B::Linear,
    middle: Middle,
    down: B::Linear,
    norm: LayerNorm<B>,
}

impl<B: Ops> Layer<B> {
    fn load(from: &Source<B>, at: usize) -> Result<Self> {
        let (names, config) = (from.names, from.config);
        let (h, wide) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("{}.{at}.{part}", names.layer);
        let layers = Layers::<B> { weights: from.weights, precision: from.precision, device: from.device };
        let linear = |part: &str, shape| layers.linear(&[name(part)], shape, true);
        let attention: Vec<String> = names.query_key_value.iter().map(|part| name(part)).collect();
        Ok(Self {
            query_key_value: layers.linear(&attention, [h, 3 * h / attention.len()], true)?,
            attention_out: linear(names.attention_out, [h, h])?,
            attention_norm: from.norm(&name(names.attention_norm), h)?,
            up: linear(names.up, [h, wide])?,
            middle: Middle::Plain(config.activation),
            down: linear(names.down, [wide, h])?,
            norm: from.norm(&name(names.norm), h)?,
        })
    }

    fn forward(&self, x: Hidden<B>, seen: &Seen<'_, B>) -> Hidden<B> {
        let a = B::self_attention(x.factor, &self.query_key_value, seen);
        let x = B::linear_add_norm(a, &self.attention_out, x.exact, &self.attention_norm);
        B::feed_forward_add_norm(x, [&self.up, &self.down], self.middle, &self.norm)
    }
}

/// The network.
pub(crate) struct Bert<B: Ops> {
    embeddings: Embeddings<B>,
    layers: Vec<Layer<B>>,
    rotary: Option<Rotary>,
    heads: usize,
    hidden_size: usize,
}

impl<B: Ops> Bert<B> {
    /// Reads the tensors that `config` implies, under their Hugging Face names.
    pub(crate) fn load(
        weights: &Weights,
        config: &BertConfig,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Self> {
        let names = config.names();
        let weights = &weights.under(&names.prefixes, "embeddings.word_embeddings.weight");
        let source = Source::<B> { weights, names, config, precision, device };
        let (embeddings, layers) = rayon::join(
            || Embeddings::load(&source),
            || (0..config.num_hidden_layers).into_par_iter().map(|at| Layer::load(&source, at)).collect::<Result<_>>(),
        );
        let heads = config.num_attention_heads;
        let rotary = config.rotary_base.map(|base| Rotary::new(base, config.hidden_size / heads));
        Ok(Self { embeddings: embeddings?, layers: layers?, rotary, heads, hidden_size: config.hidden_size })
    }

    /// Hidden states `[n, h]` of a batch, whose texts have at most as many tokens as there are positions.
    pub(crate) fn forward(&self, batch: &Batch<B>) -> Tensor<B, 2> {
        let (texts, rotary) = (&batch.texts, self.rotary.as_ref());
        let sight = Sight { texts, heads: self.heads, window: usize::MAX, rotary, distances: false };
        let seen = Seen::new(sight, self.hidden_size, &batch.ids.device());
        let x = Hidden::from(self.embeddings.forward(batch));
        self.layers.iter().fold(x, |x, layer| layer.forward(x, &seen)).exact
    }
}
