//! [`Ops`](super::Ops) as chains of Burn's own operations. Attention puts the texts of a batch into a rectangle,
//! `[b, heads, s, width]`, and takes their tokens out again.
//!
//! The chains that [`Parts`] names may be single kernels on a backend. All tensors are `f32`, but for weights and for
//! what is only multiplied next, which are of the type that a layer says.

use burn::prelude::*;
use burn::tensor::{FloatDType, TensorPrimitive, activation};

use super::padded::{Padded, Piece};
use super::{DistanceSource, Middle};
use crate::backbone::{LayerNorm, activate};
use crate::recipe::Activation;

/// What a backend may do in one go.
pub(crate) trait Parts: Backend {
    /// `x w`, both first rounded to `numbers`; sums and result are `f32`.
    fn product<const D: usize>(x: Tensor<Self, D>, w: Tensor<Self, D>, numbers: FloatDType) -> Tensor<Self, D> {
        x.cast(numbers).matmul(w.cast(numbers)).cast(FloatDType::F32)
    }

    /// `x W`, `[n, out]`, in `f32`, or in the layer's numbers if it is to be `rounded` where that loses little: for what is rounded
    /// to them next, and is much to move.
    fn multiplied(x: Tensor<Self, 2>, layer: &Linear<Self>, _rounded: bool) -> Tensor<Self, 2> {
        Self::product(x, layer.weight.clone(), layer.numbers)
    }

    /// `activation(x W + b)`, `[n, out]`, as `numbers`.
    fn layer(x: Tensor<Self, 2>, layer: &Linear<Self>, activation: Activation, numbers: FloatDType) -> Tensor<Self, 2> {
        let x = Self::multiplied(x, layer, numbers != FloatDType::F32);
        Self::biased(x, layer.bias.clone(), activation, numbers)
    }

    /// The rows of `x` that `ids` name.
    fn rows(x: Tensor<Self, 2>, ids: Tensor<Self, 1, Int>) -> Tensor<Self, 2> {
        x.select(0, ids)
    }

    /// `activation(x + bias)`, `bias` `[w]`, as `numbers`.
    fn biased(
        x: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        activation: Activation,
        numbers: FloatDType,
    ) -> Tensor<Self, 2> {
        activate(activation, add_bias(x, bias)).cast(numbers)
    }

    /// The activation of the first halves of rows of `x + bias`, times the second halves, as `numbers`.
    fn gated(
        x: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        activation: Activation,
        numbers: FloatDType,
    ) -> Tensor<Self, 2> {
        let x = add_bias(x, bias);
        let half = x.dims()[1] / 2;
        (activate(activation, x.clone().narrow(1, 0, half)) * x.narrow(1, half, half)).cast(numbers)
    }

    /// `softmax(scale * scores + hidden)` of each row, as `numbers`; `scores` `[b, heads, q, k]`, `hidden` as in [`Piece`].
    fn attention_weights(
        scores: Tensor<Self, 4>,
        scale: f32,
        hidden: Option<Tensor<Self, 3>>,
        numbers: FloatDType,
    ) -> Tensor<Self, 4> {
        let scores = scores.mul_scalar(scale);
        let scores = match hidden {
            Some(hidden) => scores + hidden.unsqueeze_dim(1),
            None => scores,
        };
        activation::softmax(scores, 3).cast(numbers)
    }

    /// `norm(x + added)`.
    fn add_norm(x: Tensor<Self, 2>, added: Option<Tensor<Self, 2>>, norm: &LayerNorm<Self>) -> Tensor<Self, 2> {
        let x = match added {
            Some(added) => x + added,
            None => x,
        };
        Tensor::from_primitive(TensorPrimitive::Float(Self::layer_norm(
            x.into_primitive().tensor(),
            norm.gamma.clone().into_primitive().tensor(),
            Some(norm.beta.clone().into_primitive().tensor()),
            norm.epsilon,
        )))
    }
}

fn add_bias<B: Backend>(x: Tensor<B, 2>, bias: Option<Tensor<B, 1>>) -> Tensor<B, 2> {
    match bias {
        Some(bias) => x + bias.unsqueeze(),
        None => x,
    }
}

#[cfg(test)]
impl Parts for burn_flex::Flex {}

/// `y = x W + b`.
pub(crate) struct Linear<B: Backend> {
    /// `[in, out]`, of `numbers`.
    pub(crate) weight: Tensor<B, 2>,
    /// `[out]`
    pub(crate) bias: Option<Tensor<B, 1>>,
    /// What factors are rounded to.
    pub(crate) numbers: FloatDType,
}

/// `[n, in]` to `[n, out]`.
pub(crate) fn linear<B: Parts>(x: Tensor<B, 2>, layer: &Linear<B>, activation: Activation) -> Tensor<B, 2> {
    B::layer(x, layer, activation, FloatDType::F32)
}

/// Vectors of distances, `[1, heads, width, 2 p - 1]` each.
pub(crate) struct Distances<B: Backend> {
    /// What keys are multiplied with.
    queries: Tensor<B, 4>,
    /// What queries are multiplied with.
    keys: Tensor<B, 4>,
}

impl<B: Backend> Distances<B> {
    pub(crate) fn new(source: DistanceSource<B>, numbers: FloatDType) -> Self {
        let DistanceSource { queries, keys, heads, .. } = source;
        let [queries, keys] = [queries, keys].map(|vectors| {
            let [count, h] = vectors.dims();
            let vectors: Tensor<B, 4> = vectors.reshape([count, 1, heads, h / heads]);
            vectors.permute([1, 2, 3, 0]).cast(numbers)
        });
        Self { queries, keys }
    }
}

/// What distances add to the scores of a piece: `q` and `k` are its queries and keys, `[b, heads, n, width]`, the first of them
/// at the places `first`.
fn added<B: Parts>(
    distances: &Distances<B>,
    [q, k]: [&Tensor<B, 4>; 2],
    first: [usize; 2],
    numbers: FloatDType,
) -> Tensor<B, 4> {
    let along = |x: &Tensor<B, 4>, vectors: &Tensor<B, 4>, others: usize, [own, other]: [usize; 2]| {
        let (dims, middle) = (x.dims(), vectors.dims()[3] / 2);
        let [b, heads, n, width] = dims;
        // From the least distance, of the last token to the first of the others, to the greatest.
        let (least, count) = (middle + other + 1 - own - n, n + others - 1);
        let vectors = vectors.clone().narrow(3, least, count).expand([b, heads, width, count]);
        shifted(B::product(x.clone(), vectors, numbers), others)
    };
    let [queries, keys] = [q.dims()[2], k.dims()[2]];
    let [q_first, k_first] = first;
    let of_keys = along(q, &distances.keys, keys, [q_first, k_first]);
    // Of the keys no more at once than there are queries: a piece of few queries has few scores.
    let some = (0..keys).step_by(queries).map(|at| {
        let some = k.clone().narrow(2, at, queries.min(keys - at));
        along(&some, &distances.queries, queries, [k_first + at, q_first]).swap_dims(2, 3)
    });
    of_keys + Tensor::cat(some.collect(), 3)
}

/// The `count` values of row `r` of the `n` from `n - 1 - r` on, where rows have `n + count - 1`.
fn shifted<B: Backend>(x: Tensor<B, 4>, count: usize) -> Tensor<B, 4> {
    let [b, heads, n, width] = x.dims();
    if n == 1 {
        return x;
    }
    // Rows shorter by one begin one later each.
    let x: Tensor<B, 3> = x.reshape([b, heads, n * width]);
    let x: Tensor<B, 4> = x.narrow(2, n - 1, n * (width - 1)).reshape([b, heads, n, width - 1]);
    x.narrow(3, 0, count)
}

/// See [`super::Ops::feed_forward`].
pub(crate) fn feed_forward<B: Parts>(x: Tensor<B, 2>, [up, down]: [&Linear<B>; 2], middle: Middle) -> Tensor<B, 2> {
    linear(wide(x, up, middle, down.numbers), down, Activation::Identity)
}

/// What goes into the second layer of a feed-forward block, as `numbers`.
pub(crate) fn wide<B: Parts>(x: Tensor<B, 2>, up: &Linear<B>, middle: Middle, numbers: FloatDType) -> Tensor<B, 2> {
    match middle {
        Middle::Plain(activation) => B::layer(x, up, activation, numbers),
        Middle::Gated(activation) => B::gated(B::multiplied(x, up, true), up.bias.clone(), activation, numbers),
    }
}

/// See [`super::Ops::self_attention`], and [`super::Ops::distance_attention`] for what `distances` are.
pub(crate) fn self_attention<B: Parts>(
    x: Tensor<B, 2>,
    layer: &Linear<B>,
    distances: Option<&Distances<B>>,
    heads: usize,
    padded: &Padded<B>,
) -> Tensor<B, 2> {
    let [n, h] = x.dims();
    let ([b, s], width) = (padded.shape, h / heads);
    // Rounded early, so that less is moved; turning is exact.
    let numbers = if padded.turn.is_none() { layer.numbers } else { FloatDType::F32 };
    let x = B::layer(x, layer, Activation::Identity, numbers);
    let x = match &padded.moves {
        Some([rows, _]) => B::rows(x, rows.clone()),
        None => x,
    };
    let x = x.reshape([b, s, 3, heads, width]);
    // Each `[b, heads, s, width]`.
    let part = |x: &Tensor<B, 5>, at| x.clone().narrow(2, at, 1).squeeze_dim::<4>(2).swap_dims(1, 2);
    let v = part(&x, 2);
    let [q, k] = match &padded.turn {
        Some(turn) => {
            let turned = turned(x.narrow(2, 0, 2), turn);
            [part(&turned, 0), part(&turned, 1)]
        }
        None => [part(&x, 0), part(&x, 1)],
    };
    let [q, k, v] = [q, k, v].map(|x| x.cast(layer.numbers));
    let of_piece = |Piece { queries, keys, hidden }: &Piece<B>| {
        let k = k.clone().narrow(2, keys.start, keys.len());
        let v = v.clone().narrow(2, keys.start, keys.len());
        let q = q.clone().narrow(2, queries.start, queries.len());
        let extra = distances.map(|d| added(d, [&q, &k], [queries.start, keys.start], layer.numbers));
        let scores = B::product(q, k.swap_dims(2, 3), layer.numbers);
        let scores = match extra {
            Some(extra) => scores + extra,
            None => scores,
        };
        let weights = B::attention_weights(scores, 1.0 / (width as f32).sqrt(), hidden.clone(), layer.numbers);
        B::product(weights, v, layer.numbers)
    };
    let mut out: Vec<Tensor<B, 4>> = padded.pieces.iter().map(of_piece).collect();
    let out = if out.len() == 1 { out.swap_remove(0) } else { Tensor::cat(out, 2) };
    let out = match &padded.seeing {
        Some(seeing) => out * seeing.clone(),
        None => out,
    };
    let out = out.swap_dims(1, 2).reshape([b * s, h]);
    match &padded.moves {
        Some([_, places]) => B::rows(out, places.clone()).reshape([n, h]),
        None => out,
    }
}

/// `x`, `[b, s, 2, heads, width]`, turned by the angles of its places.
fn turned<B: Backend>(x: Tensor<B, 5>, [cos, sin]: &[Tensor<B, 5>; 2]) -> Tensor<B, 5> {
    let half = x.dims()[4] / 2;
    let (first, second) = (x.clone().narrow(4, 0, half), x.clone().narrow(4, half, half));
    x * cos.clone() + Tensor::cat(vec![second.neg(), first], 4) * sin.clone()
}
