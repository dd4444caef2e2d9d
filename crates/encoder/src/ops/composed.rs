//! [`Ops`](super::Ops) as chains of Burn's own operations. Attention puts the texts of a batch into a rectangle,
//! `[b, heads, s, width]`, and takes their tokens out again.

use burn::prelude::*;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{TensorPrimitive, module};

use super::{Middle, Seen};
use crate::backbone::{LayerNorm, Rotary, activate};
use crate::batch::Span;
use crate::recipe::Activation;

/// `y = x W + b`.
pub(crate) struct Linear<B: Backend> {
    /// `[in, out]`
    pub(crate) weight: Tensor<B, 2>,
    /// `[out]`
    pub(crate) bias: Option<Tensor<B, 1>>,
}

/// `[n, in]` to `[n, out]`.
pub(crate) fn linear<B: Backend>(x: Tensor<B, 2>, layer: &Linear<B>, activation: Activation) -> Tensor<B, 2> {
    activate(activation, module::linear(x, layer.weight.clone(), layer.bias.clone()))
}

/// See [`super::Ops::feed_forward`].
pub(crate) fn feed_forward<B: Backend>(x: Tensor<B, 2>, [up, down]: [&Linear<B>; 2], middle: Middle) -> Tensor<B, 2> {
    let x = linear(x, up, Activation::Identity);
    let wide = match middle {
        Middle::Plain(activation) => activate(activation, x),
        Middle::Gated(activation) => {
            let half = x.dims()[1] / 2;
            activate(activation, x.clone().narrow(1, 0, half)) * x.narrow(1, half, half)
        }
    };
    linear(wide, down, Activation::Identity)
}

/// See [`super::Ops::add_norm`].
pub(crate) fn add_norm<B: Backend>(x: Tensor<B, 2>, added: Option<Tensor<B, 2>>, norm: &LayerNorm<B>) -> Tensor<B, 2> {
    let x = match added {
        Some(added) => x + added,
        None => x,
    };
    Tensor::from_primitive(TensorPrimitive::Float(B::layer_norm(
        x.into_primitive().tensor(),
        norm.gamma.clone().into_primitive().tensor(),
        Some(norm.beta.clone().into_primitive().tensor()),
        norm.epsilon,
    )))
}

/// See [`super::Ops::self_attention`].
pub(crate) fn self_attention<B: Backend>(x: Tensor<B, 2>, layer: &Linear<B>, seen: &Seen<'_>) -> Tensor<B, 2> {
    let device = x.device();
    let [n, h] = x.dims();
    let (b, s) = (seen.texts.len(), seen.texts.iter().map(|text| text.len).max().unwrap_or(0));
    let (heads, width) = (seen.heads, h / seen.heads);
    let ints = |values: Vec<i32>| {
        let len = values.len();
        Tensor::<B, 1, Int>::from_data(TensorData::new(values, [len]), &device)
    };
    let place = |text: &Span, t: usize| if t < text.len { text.first + t } else { 0 };
    let rows = ints(seen.texts.iter().flat_map(|text| (0..s).map(move |t| place(text, t) as i32)).collect());
    let places = |(at, text): (usize, &Span)| (at * s..at * s + text.len).map(|place| place as i32).collect::<Vec<_>>();
    let places = ints(seen.texts.iter().enumerate().flat_map(places).collect());

    let hidden: Vec<bool> = seen
        .texts
        .iter()
        .flat_map(|text| (0..s).flat_map(move |i| (0..s).map(move |j| (text.attended, i, j))))
        .map(|(attended, i, j)| j >= attended || i.abs_diff(j) > seen.window)
        .collect();
    let blind: Vec<bool> = hidden.chunks_exact(s).map(|row| row.iter().all(|hidden| *hidden)).collect();
    let hidden = Tensor::<B, 4, Bool>::from_data(TensorData::new(hidden, [b, 1, s, s]), &device);
    let blind = Tensor::<B, 2, Bool>::from_data(TensorData::new(blind, [b * s, 1]), &device);

    let x = linear(x, layer, Activation::Identity).select(0, rows).reshape([b, s, 3, heads, width]);
    let [q, k, v] = [0, 1, 2].map(|part| x.clone().narrow(2, part, 1).squeeze_dim::<4>(2).swap_dims(1, 2));
    let [q, k] = match seen.rotary {
        Some(rotary) => [q, k].map(|x| turned(rotary, x)),
        None => [q, k],
    };
    let out = module::attention(q, k, v, Some(hidden), None, AttentionModuleOptions::default());
    let out = out.swap_dims(1, 2).reshape([b * s, h]).mask_fill(blind.expand([b * s, h]), 0.0);
    out.select(0, places).reshape([n, h])
}

/// `x`, `[b, heads, s, width]`, turned by the angles of its places.
fn turned<B: Backend>(rotary: &Rotary, x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [_, _, s, width] = x.dims();
    let half = width / 2;
    let angles = rotary.angles(s);
    let table = |values: &[f32]| {
        let doubled: Vec<f32> = values.chunks_exact(half).take(s).flat_map(|row| [row, row].concat()).collect();
        Tensor::<B, 4>::from_data(TensorData::new(doubled, [1, 1, s, width]), &x.device())
    };
    let (cos, sin) = (table(&angles.cos), table(&angles.sin));
    let (first, second) = (x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half));
    x * cos + Tensor::cat(vec![second.neg(), first], 3) * sin
}
