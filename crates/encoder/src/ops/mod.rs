//! The operations that networks are made of, and that a backend does in its own way.
//!
//! [`Ops`] is an ordinary trait over [`Backend`]. `cpu` is Flex with the kernels of `latewood-simd`: weights packed once,
//! bias and activation within the product, attention text by text. `composed` is each operation in terms of Burn's own:
//! their specification, which tests hold `cpu` to.
//!
//! The tokens of all texts of a batch are the rows of one tensor `[n, h]`, without padding; [`Seen`] says where a text
//! begins and which tokens see which.

#[cfg(test)]
mod composed;
mod cpu;

use burn::prelude::*;

use crate::backbone::{LayerNorm, Rotary};
use crate::batch::Span;
use crate::error::Result;
use crate::recipe::Activation;

/// In which numbers a network computes its linear layers. Attention, and the projection that makes rows of hidden states,
/// are `f32` in either.
///
/// It is the encoder's own business: rows of either precision can be searched with the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Weights and rows in bytes, each column and each row with a scale of its own; everything between the products in
    /// `f32`. Several times as fast as `f32` on a CPU.
    #[default]
    Int8,
    /// `f32` throughout.
    F32,
}

/// A linear layer to be packed: where its weights come from.
pub(crate) struct LinearSource<'a> {
    /// `[input, output]`
    pub(crate) shape: [usize; 2],
    /// `[output]`
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) precision: Precision,
    /// Writes the weights of one output, `[input]`.
    pub(crate) read: &'a mut dyn FnMut(usize, &mut [f32]) -> Result<()>,
}

/// What a feed-forward block does between its two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Middle {
    /// The activation of all values.
    Plain(Activation),
    /// The activation of the first half of a row, times the second half.
    Gated(Activation),
}

/// What the network needs of a backend.
pub(crate) trait Ops: Backend {
    /// A linear layer, `y = x W + b`, as the backend likes it.
    type Linear: Send + Sync;

    fn pack(source: LinearSource<'_>, device: &Self::Device) -> Result<Self::Linear>;

    /// `[n, input]` to `[n, output]`.
    fn linear_layer(x: Tensor<Self, 2>, layer: &Self::Linear, activation: Activation) -> Tensor<Self, 2>;

    /// `softmax(q k^T / sqrt(width)) v` in each head, where `layer` makes queries, keys and values of `x`, side by side;
    /// `[n, h]` to `[n, h]`. Zeros for a token that sees none.
    fn self_attention(x: Tensor<Self, 2>, layer: &Self::Linear, seen: &Seen<'_>) -> Tensor<Self, 2>;

    /// Two linear layers, up and down, with `middle` between them, `[n, h]` to `[n, h]`.
    fn feed_forward(x: Tensor<Self, 2>, layers: [&Self::Linear; 2], middle: Middle) -> Tensor<Self, 2>;

    /// `norm(x + added)`.
    fn add_norm(x: Tensor<Self, 2>, added: Option<Tensor<Self, 2>>, norm: &LayerNorm<Self>) -> Tensor<Self, 2>;
}

/// What attention knows of a batch.
pub(crate) struct Seen<'a> {
    pub(crate) texts: &'a [Span],
    pub(crate) heads: usize,
    /// How far a token sees, to either side.
    pub(crate) window: usize,
    pub(crate) rotary: Option<&'a Rotary>,
}
