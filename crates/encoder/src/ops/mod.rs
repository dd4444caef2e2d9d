//! The operations that networks are made of, and that a backend does in its own way.
//!
//! [`Ops`] is an ordinary trait over [`Backend`]. `cpu` is Flex with the kernels of `latewood-simd`: weights packed once,
//! bias and activation within the product, attention text by text. `composed` is each operation in terms of Burn's own:
//! the specification, which tests hold `cpu` to, and what `gpu` runs, but for the chains of it that are kernels there.
//!
//! The tokens of all texts of a batch are the rows of one tensor `[n, h]`, without padding; [`Seen`] says where a text
//! begins and which tokens see which.

#[cfg(feature = "gpu")]
mod attention;
#[cfg(any(test, feature = "gpu"))]
mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "gpu")]
mod kernels;
#[cfg(any(test, feature = "gpu"))]
mod padded;
#[cfg(feature = "gpu")]
mod probe;
#[cfg(feature = "gpu")]
pub(crate) mod product;

use burn::prelude::*;

use crate::backbone::{LayerNorm, Rotary};
use crate::batch::{Budget, Span};
use crate::error::{Error, Result};
use crate::recipe::Activation;

#[cfg(feature = "gpu")]
pub(crate) use gpu::Gpu;

/// In which numbers a network computes its linear layers.
///
/// It is the encoder's own business: rows of either precision can be searched with the other. Norms, softmax and what is
/// between the products are `f32` in all of them, and so is the projection that makes rows of hidden states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Precision {
    /// What suits the device: [`Self::Int8`] on the processor; on a GPU [`Self::F16`], or [`Self::F32`] if it does not
    /// compute with `f16`.
    #[default]
    Auto,
    /// Weights and rows in bytes, each column and each row with a scale of its own; everything between the products in
    /// `f32`, and attention. Several times as fast as `f32` on a processor; a GPU has better, and refuses it.
    Int8,
    /// `f32` throughout. CUDA's matrix products round their factors to 11 bits (TF32), where the GPU has them.
    F32,
    /// Weights, and the factors of each product, in half precision, their sums in `f32`, which are rounded where they go
    /// into an activation or into attention. GPUs only.
    F16,
    /// Weights and factors in bfloat16, sums in `f32`: 3 bits less than [`Self::F16`], and nothing overflows. GPUs only,
    /// those that have it.
    Bf16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Int8 => "int8",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// The error of a `precision` that the device, which does what `limit` says, does not compute in.
fn refused(precision: Precision, limit: impl Into<String>) -> Error {
    Error::Option { option: "precision", found: precision.to_string(), limit: limit.into() }
}

/// A linear layer to be packed: where its weights come from.
pub(crate) struct LinearSource<'a> {
    /// `[input, output]`
    pub(crate) shape: [usize; 2],
    /// `[output]`
    pub(crate) bias: Option<Vec<f32>>,
    /// One that [`Ops::precision`] gave.
    pub(crate) precision: Precision,
    /// Writes the weights of one output, `[input]`.
    pub(crate) read: &'a mut dyn FnMut(usize, &mut [f32]) -> Result<()>,
}

/// Vectors of distances between tokens, from the furthest to one side to the furthest to the other, `[2 p - 1, h]` each for
/// texts of up to `p` tokens.
pub(crate) struct DistanceSource<B: Backend> {
    /// What keys are multiplied with; for distances from `1 - p` to `p - 1`, a query's place minus a key's.
    pub(crate) queries: Tensor<B, 2>,
    /// What queries are multiplied with; from `p - 1` to `1 - p`.
    pub(crate) keys: Tensor<B, 2>,
    pub(crate) heads: usize,
    /// One that [`Ops::precision`] gave.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "attention is in f32 on the processor"))]
    pub(crate) precision: Precision,
}

/// What a feed-forward block does between its two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Middle {
    /// The activation of all values.
    Plain(Activation),
    /// The activation of the first half of a row, times the second half.
    Gated(Activation),
}

/// Hidden states, `[n, h]`, in the two ways that a layer takes them.
pub(crate) struct Hidden<B: Backend> {
    /// What its output is added to, in `f32`.
    pub(crate) exact: Tensor<B, 2>,
    /// What it multiplies: the same or, where norms come first, its norm; rounded, where a backend does both at once.
    pub(crate) factor: Tensor<B, 2>,
}

impl<B: Backend> From<Tensor<B, 2>> for Hidden<B> {
    fn from(exact: Tensor<B, 2>) -> Self {
        Self { factor: exact.clone(), exact }
    }
}

/// What the network needs of a backend.
pub(crate) trait Ops: Backend {
    /// A linear layer, `y = x W + b`, as the backend likes it.
    type Linear: Send + Sync;

    /// Vectors of distances, as the backend likes them.
    type Distances: Send + Sync;

    /// What attention makes of a batch once, for all layers.
    type Prepared;

    /// The precision that `device` computes in where `asked` is asked for.
    fn precision(asked: Precision, device: &Self::Device) -> Result<Precision>;

    /// How a network whose widest rows have `widest` values likes its batches.
    fn budget(widest: usize, device: &Self::Device) -> Budget;

    fn pack(source: LinearSource<'_>, device: &Self::Device) -> Result<Self::Linear>;

    fn pack_distances(source: DistanceSource<Self>) -> Self::Distances;

    /// `width` is that of a head.
    fn prepare(sight: &Sight<'_>, width: usize, device: &Self::Device) -> Self::Prepared;

    /// `[n, input]` to `[n, output]`.
    fn linear_layer(x: Tensor<Self, 2>, layer: &Self::Linear, activation: Activation) -> Tensor<Self, 2>;

    /// `softmax(q k^T / sqrt(width)) v` in each head, where `layer` makes queries, keys and values of `x`, side by side;
    /// `[n, h]` to `[n, h]`. Zeros for a token that sees none.
    fn self_attention(x: Tensor<Self, 2>, layer: &Self::Linear, seen: &Seen<'_, Self>) -> Tensor<Self, 2>;

    /// [`Self::self_attention`] with `(q[i] k[j] + q[i] keys[j - i] + queries[i - j] k[j])` for `q k^T`, of texts of no more
    /// tokens than there are distances for.
    fn distance_attention(
        x: Tensor<Self, 2>,
        layer: &Self::Linear,
        distances: &Self::Distances,
        seen: &Seen<'_, Self>,
    ) -> Tensor<Self, 2>;

    /// Two linear layers, up and down, with `middle` between them, `[n, h]` to `[n, h]`.
    fn feed_forward(x: Tensor<Self, 2>, layers: [&Self::Linear; 2], middle: Middle) -> Tensor<Self, 2>;

    /// The rows of `x` that `ids` name: `[rows, h]` to `[n, h]`.
    fn lookup(x: Tensor<Self, 2>, ids: Tensor<Self, 1, Int>) -> Tensor<Self, 2> {
        x.select(0, ids)
    }

    /// `norm(x + added)`.
    fn add_norm(x: Tensor<Self, 2>, added: Option<Tensor<Self, 2>>, norm: &LayerNorm<Self>) -> Tensor<Self, 2>;

    /// `norm(x + a W + b)`.
    fn linear_add_norm(
        a: Tensor<Self, 2>,
        layer: &Self::Linear,
        x: Tensor<Self, 2>,
        norm: &LayerNorm<Self>,
    ) -> Hidden<Self> {
        Self::add_norm(Self::linear_layer(a, layer, Activation::Identity), Some(x), norm).into()
    }

    /// `norm(x + feed_forward(factor))`.
    fn feed_forward_add_norm(
        x: Hidden<Self>,
        layers: [&Self::Linear; 2],
        middle: Middle,
        norm: &LayerNorm<Self>,
    ) -> Hidden<Self> {
        Self::add_norm(Self::feed_forward(x.factor, layers, middle), Some(x.exact), norm).into()
    }

    /// `x + a W + b`, and its norm as a factor.
    fn linear_add_then_norm(
        a: Tensor<Self, 2>,
        layer: &Self::Linear,
        x: Tensor<Self, 2>,
        norm: &LayerNorm<Self>,
    ) -> Hidden<Self> {
        let exact = x + Self::linear_layer(a, layer, Activation::Identity);
        Hidden { factor: Self::add_norm(exact.clone(), None, norm), exact }
    }

    /// `x + feed_forward(factor)`, and its norm as a factor.
    fn feed_forward_add_then_norm(
        x: Hidden<Self>,
        layers: [&Self::Linear; 2],
        middle: Middle,
        norm: &LayerNorm<Self>,
    ) -> Hidden<Self> {
        let exact = x.exact + Self::feed_forward(x.factor, layers, middle);
        Hidden { factor: Self::add_norm(exact.clone(), None, norm), exact }
    }

    /// The mean over the tokens of each text that are attended to, `[n, h]` to `[texts, h]`.
    fn means(hidden: Tensor<Self, 2>, texts: &[Span]) -> Tensor<Self, 2> {
        let n = hidden.dims()[0];
        let mut weights = vec![0.0; texts.len() * n];
        for (row, text) in weights.chunks_exact_mut(n).zip(texts) {
            row[text.first..][..text.attended].fill(1.0 / text.attended as f32);
        }
        Tensor::from_data(TensorData::new(weights, [texts.len(), n]), &hidden.device()).matmul(hidden)
    }
}

/// Which tokens of a batch see which.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub(crate) texts: &'a [Span],
    pub(crate) heads: usize,
    /// How far a token sees, to either side.
    pub(crate) window: usize,
    pub(crate) rotary: Option<&'a Rotary>,
    /// Whether how well depends on distances, too.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the processor takes a text at a time"))]
    pub(crate) distances: bool,
}

/// What attention knows of a batch.
pub(crate) struct Seen<'a, B: Ops> {
    pub(crate) sight: Sight<'a>,
    /// Of `sight`. The kernels of the processor need no more than that.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "nothing is prepared for the processor"))]
    pub(crate) prepared: B::Prepared,
}

impl<'a, B: Ops> Seen<'a, B> {
    /// `hidden_size` is that of the network.
    pub(crate) fn new(sight: Sight<'a>, hidden_size: usize, device: &B::Device) -> Self {
        Self { prepared: B::prepare(&sight, hidden_size / sight.heads, device), sight }
    }
}
