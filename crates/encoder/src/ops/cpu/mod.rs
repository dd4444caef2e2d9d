//! [`Ops`] on Flex: the kernels of `latewood-simd`, spread over the threads of the current rayon pool.
//!
//! Large results between two operations are never tensors: they live in [`Scratch`], which each thread keeps.

mod distances;

use std::cell::Cell;
use std::ops::Range;

use burn::prelude::*;
use burn::tensor::TensorPrimitive;
use burn_flex::{Flex, FlexTensor};
use latewood_simd::{
    Activation as Fused, AttentionScratch, Block, ByteRows, Heads, MatrixF32, MatrixI8, Sight, TransformerKernels,
};

use super::{DistanceSource, LinearSource, Middle, Ops, Precision, Seen, Sight as Seeing, refused};
use crate::backbone::{Angles, LayerNorm, activate};
use crate::batch::{Budget, Span};
use crate::error::Result;
use crate::recipe::Activation;
use distances::{Distances, HeadOf};

/// Products that one thread does in the time that it takes to hand work to another, several times over.
const WORTH_SPLITTING: usize = 1 << 17;

/// Tokens of a batch, unless one text alone has more: enough for matrix products to run at full speed, few enough for
/// their results to stay in a cache.
const TOKENS: usize = 512;

const LIMIT: &str = "the processor computes in int8 or f32";

/// A packed matrix.
pub(crate) enum Linear {
    F32(MatrixF32),
    Int8(MatrixI8),
}

impl Linear {
    fn output(&self) -> usize {
        match self {
            Self::F32(matrix) => matrix.output(),
            Self::Int8(matrix) => matrix.output(),
        }
    }

    /// `out = activation(x W + b)`.
    fn multiply(&self, x: &[f32], activation: Fused, out: &mut [f32], bytes: &mut ByteRows) {
        let kernels = TransformerKernels::detect();
        let out = Block::new(out, self.output());
        match self {
            Self::F32(matrix) => {
                let columns = |panels| matrix.columns(panels);
                let run = |panels, out: Block<'_>| kernels.linear(x, matrix, panels, activation, out);
                spread(0..matrix.panels(), out, x.len() * matrix.output(), &columns, &run);
            }
            Self::Int8(matrix) => {
                kernels.quantise(x, matrix.input(), bytes);
                let bytes = &*bytes;
                let columns = |panels| matrix.columns(panels);
                let run = |panels, out: Block<'_>| kernels.byte_linear(bytes, matrix, panels, activation, out);
                // Bytes go three to four times as fast.
                spread(0..matrix.panels(), out, x.len() * matrix.output() / 4, &columns, &run);
            }
        }
    }
}

/// Runs `run` over parts of `units`, which write the columns `columns` of `out`: as many as there are threads, unless the
/// `work`, in products of numbers, is not worth it.
fn spread(
    units: Range<usize>,
    out: Block<'_>,
    work: usize,
    columns: &(impl Fn(Range<usize>) -> Range<usize> + Sync),
    run: &(impl Fn(Range<usize>, Block<'_>) + Sync),
) {
    let parts = rayon::current_num_threads().min(work / WORTH_SPLITTING + 1).min(units.len());
    spread_over(parts, units, out, columns, run);
}

/// [`spread`] over `parts` parts.
fn spread_over(
    parts: usize,
    units: Range<usize>,
    out: Block<'_>,
    columns: &(impl Fn(Range<usize>) -> Range<usize> + Sync),
    run: &(impl Fn(Range<usize>, Block<'_>) + Sync),
) {
    if parts <= 1 {
        return run(units, out);
    }
    let half = parts / 2;
    let middle = units.start + units.len() * half / parts;
    let (left, right) = (units.start..middle, middle..units.end);
    let (left_out, right_out) = out.split_columns(columns(left.clone()).len());
    rayon::join(
        || spread_over(half, left, left_out, columns, run),
        || spread_over(parts - half, right, right_out, columns, run),
    );
}

/// What operations need between their parts; reused.
#[derive(Default)]
struct Scratch {
    /// Queries, keys and values, or what is between the two layers of a feed-forward block.
    wide: Vec<f32>,
    /// The halves of `wide`, multiplied.
    gated: Vec<f32>,
    bytes: ByteRows,
}

/// Bytes that a thread keeps for the next time; more than the batches of a usual model need.
const KEPT: usize = 64 << 20;

/// Runs `body` with this thread's value of `kept`, which is a new one if the thread is in the middle of using it: while it
/// waits for a part that it handed over, it may be given another's.
fn with<T: Default, R>(kept: &'static std::thread::LocalKey<Cell<T>>, body: impl FnOnce(&mut T) -> R) -> R {
    let mut value = kept.take();
    let result = body(&mut value);
    kept.set(value);
    result
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
    static ATTENTION: Cell<AttentionScratch> = Cell::default();
    static DISTANCES: Cell<distances::Scratch> = Cell::default();
}

fn with_scratch<R>(body: impl FnOnce(&mut Scratch) -> R) -> R {
    with(&SCRATCH, |scratch| {
        let result = body(scratch);
        if (scratch.wide.len() + scratch.gated.len()) * size_of::<f32>() > KEPT {
            *scratch = Scratch::default();
        }
        result
    })
}

/// The first `len` values of `values`, whatever they are.
fn room(values: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if values.len() < len {
        *values = vec![0.0; len];
    }
    &mut values[..len]
}

impl Ops for Flex {
    type Linear = Linear;
    type Distances = Distances;
    type Prepared = ();

    fn precision(asked: Precision, _: &Self::Device) -> Result<Precision> {
        match asked {
            Precision::Auto => Ok(Precision::Int8),
            Precision::Int8 | Precision::F32 => Ok(asked),
            Precision::F16 | Precision::Bf16 => Err(refused(asked, LIMIT)),
        }
    }

    fn budget(_: usize, _: &Self::Device) -> Budget {
        Budget { tokens: TOKENS, padded: false }
    }

    fn pack(source: LinearSource<'_>, _: &Self::Device) -> Result<Linear> {
        let LinearSource { shape, bias, precision, read } = source;
        let kernels = TransformerKernels::detect();
        match precision {
            Precision::F32 => Ok(Linear::F32(kernels.pack(shape, bias.as_deref(), read)?)),
            Precision::Int8 => Ok(Linear::Int8(kernels.pack_bytes(shape, bias.as_deref(), read)?)),
            other => Err(refused(other, LIMIT)),
        }
    }

    fn pack_distances(source: DistanceSource<Self>) -> Distances {
        Distances::pack(source)
    }

    fn prepare(_: &Seeing<'_>, _: usize, _: &Self::Device) {}

    fn linear_layer(x: Tensor<Self, 2>, layer: &Linear, activation: Activation) -> Tensor<Self, 2> {
        let n = x.dims()[0];
        let mut out = vec![0.0; n * layer.output()];
        let (fused, rest) = match activation {
            Activation::Gelu => (Fused::Gelu, Activation::Identity),
            other => (Fused::Identity, other),
        };
        let x = contiguous(x);
        with_scratch(|scratch| layer.multiply(x.storage(), fused, &mut out, &mut scratch.bytes));
        activate(rest, tensor(out, [n, layer.output()]))
    }

    fn self_attention(x: Tensor<Self, 2>, layer: &Linear, seen: &Seen<'_, Self>) -> Tensor<Self, 2> {
        attention(x, layer, &seen.sight, None)
    }

    fn distance_attention(
        x: Tensor<Self, 2>,
        layer: &Linear,
        distances: &Distances,
        seen: &Seen<'_, Self>,
    ) -> Tensor<Self, 2> {
        attention(x, layer, &seen.sight, Some(distances))
    }

    fn feed_forward(x: Tensor<Self, 2>, [up, down]: [&Linear; 2], middle: Middle) -> Tensor<Self, 2> {
        let n = x.dims()[0];
        let mut out = vec![0.0; n * down.output()];
        let kernels = TransformerKernels::detect();
        let x = contiguous(x);
        with_scratch(|Scratch { wide, gated, bytes }| {
            let wide = room(wide, n * up.output());
            let inner = match middle {
                Middle::Plain(Activation::Gelu) => {
                    up.multiply(x.storage(), Fused::Gelu, wide, bytes);
                    wide
                }
                Middle::Plain(activation) => {
                    up.multiply(x.storage(), Fused::Identity, wide, bytes);
                    apply(activation, wide, up.output());
                    wide
                }
                Middle::Gated(activation) => {
                    up.multiply(x.storage(), Fused::Identity, wide, bytes);
                    let half = up.output() / 2;
                    let gated = room(gated, n * half);
                    match activation {
                        Activation::Gelu => kernels.gelu_gate(wide, half, gated),
                        other => gate(other, wide, half, gated),
                    }
                    gated
                }
            };
            down.multiply(inner, Fused::Identity, &mut out, bytes);
        });
        tensor(out, [n, down.output()])
    }

    fn add_norm(x: Tensor<Self, 2>, added: Option<Tensor<Self, 2>>, norm: &LayerNorm<Self>) -> Tensor<Self, 2> {
        let mut x = contiguous(x);
        let added = added.map(contiguous);
        let [gamma, beta] = [&norm.gamma, &norm.beta].map(|part| contiguous(part.clone()));
        let kernels = TransformerKernels::detect();
        let values = added.as_ref().map_or(&[][..], |added| added.storage());
        kernels.add_norm(x.storage_mut(), values, gamma.storage(), beta.storage(), norm.epsilon as f32);
        Tensor::from_primitive(TensorPrimitive::Float(x))
    }
}

/// See [`Ops::self_attention`] and [`Ops::distance_attention`].
fn attention(x: Tensor<Flex, 2>, layer: &Linear, seen: &Seeing<'_>, distances: Option<&Distances>) -> Tensor<Flex, 2> {
    let [n, h] = x.dims();
    let heads = Heads { count: seen.heads, width: h / seen.heads };
    let mut out = vec![0.0; n * h];
    let x = contiguous(x);
    with_scratch(|Scratch { wide, bytes, .. }| {
        let qkv = room(wide, n * 3 * h);
        layer.multiply(x.storage(), Fused::Identity, qkv, bytes);
        if let Some(rotary) = seen.rotary {
            let longest = seen.texts.iter().map(|text| text.len).max().unwrap_or(0);
            turn(qkv, seen.texts, heads, &rotary.angles(longest));
        }
        let mut left = Block::new(&mut out, h);
        for text in seen.texts {
            let (block, others) = left.split_rows(text.len);
            left = others;
            let qkv = &qkv[text.first * 3 * h..][..text.len * 3 * h];
            let sight = Sight { attended: text.attended, window: seen.window, added: &[] };
            attend(qkv, heads, sight, distances, block);
        }
    });
    tensor(out, [n, h])
}

/// Turns queries and keys of each token by the angles of its place in its text.
fn turn(qkv: &mut [f32], texts: &[Span], heads: Heads, angles: &Angles) {
    let (kernels, h, half) = (TransformerKernels::detect(), heads.columns(), heads.width / 2);
    for text in texts {
        let tokens = qkv[text.first * 3 * h..][..text.len * 3 * h].chunks_exact_mut(3 * h);
        for (token, (cos, sin)) in tokens.zip(angles.cos.chunks_exact(half).zip(angles.sin.chunks_exact(half))) {
            kernels.rotate(&mut token[..2 * h], cos, sin);
        }
    }
}

/// Attention within one text.
fn attend(qkv: &[f32], heads: Heads, sight: Sight<'_>, distances: Option<&Distances>, out: Block<'_>) {
    let columns = |which: Range<usize>| which.start * heads.width..which.end * heads.width;
    let work = 2 * out.rows() * out.rows() * heads.columns();
    let Some(distances) = distances else {
        let run = |which, out: Block<'_>| attend_heads(qkv, heads, which, sight, out);
        return spread(0..heads.count, out, work, &columns, &run);
    };
    // Two more products, of twice as many distances as there are tokens.
    spread(0..heads.count, out, 3 * work, &columns, &|which, mut out| {
        with(&DISTANCES, |scratch| {
            for head in which {
                let (block, others) = out.split_columns(heads.width);
                out = others;
                let added = distances.added(HeadOf { qkv, heads, head }, scratch);
                attend_heads(qkv, heads, head..head + 1, Sight { added, ..sight }, block);
            }
            scratch.shrink(KEPT);
        });
    });
}

fn attend_heads(qkv: &[f32], heads: Heads, which: Range<usize>, sight: Sight<'_>, out: Block<'_>) {
    let kernels = TransformerKernels::detect();
    with(&ATTENTION, |scratch| kernels.attention(qkv, heads, which, sight, out, scratch));
}

/// `activation` of each value of `[n, width]`, by Burn: what few models have.
fn apply(activation: Activation, values: &mut [f32], width: usize) {
    let x = tensor(values.to_vec(), [values.len() / width, width]);
    values.copy_from_slice(contiguous(activate(activation, x)).storage());
}

/// `activation` of the first half of each row of `x`, `[n, 2 * width]`, times the second.
fn gate(activation: Activation, x: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        out.copy_from_slice(&row[..width]);
    }
    apply(activation, out, width);
    for (row, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        out.iter_mut().zip(&row[width..]).for_each(|(out, gate)| *out *= gate);
    }
}

/// The primitive of `x`, its storage the values of `x` and nothing else; no copy if it is so already.
fn contiguous<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    x.into_primitive().tensor().to_contiguous()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

#[cfg(test)]
mod tests {
    use super::super::composed;
    use super::super::padded::Padded;
    use super::*;
    use crate::backbone::Rotary;
    use burn::tensor::{Distribution, FloatDType};

    const H: usize = 24;

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Default::default())
    }

    #[track_caller]
    fn close(found: Tensor<Flex, 2>, expected: Tensor<Flex, 2>, tolerance: f32) {
        assert_eq!(found.dims(), expected.dims());
        let difference = (found - expected).abs().max().into_scalar();
        assert!(difference <= tolerance, "{difference}");
    }

    /// Texts of so many tokens, of which so many are attended to, and the tokens of all.
    fn texts<const N: usize>(lens: [(usize, usize); N]) -> (Vec<Span>, usize) {
        let mut first = 0;
        let span = |(len, attended)| {
            first += len;
            Span { first: first - len, len, attended }
        };
        (lens.map(span).into(), first)
    }

    /// A layer, and the same as Burn has it.
    fn layer(shape: [usize; 2], precision: Precision) -> (Linear, composed::Linear<Flex>) {
        let (weight, bias) = (random(shape), random([shape[1]]));
        let values = weight.clone().transpose().into_data().to_vec::<f32>().unwrap();
        let mut read = |at: usize, to: &mut [f32]| {
            to.copy_from_slice(&values[at * shape[0]..][..shape[0]]);
            Ok(())
        };
        let source = LinearSource { shape, bias: Some(bias.to_data().to_vec().unwrap()), precision, read: &mut read };
        (
            Flex::pack(source, &Default::default()).unwrap(),
            composed::Linear { weight, bias: Some(bias), numbers: FloatDType::F32 },
        )
    }

    /// Runs `test` without other threads and with some, which then share the work.
    fn on_threads(test: impl Fn() + Sync) {
        for threads in [1, 3] {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&test);
        }
    }

    const ACTIVATIONS: [Activation; 4] =
        [Activation::Identity, Activation::Gelu, Activation::GeluTanh, Activation::Silu];

    #[test]
    fn linear_layers_are_as_burn_has_them() {
        for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Int8, 0.3)] {
            for activation in ACTIVATIONS {
                let (packed, plain) = layer([200, 700], precision);
                let x = random([40, 200]);
                let expected = composed::linear(x.clone(), &plain, activation);
                on_threads(|| close(Flex::linear_layer(x.clone(), &packed, activation), expected.clone(), tolerance));
            }
        }
    }

    #[test]
    fn feed_forward_blocks_are_as_burn_has_them() {
        for activation in ACTIVATIONS {
            for (middle, factor) in [(Middle::Plain(activation), 1), (Middle::Gated(activation), 2)] {
                let (up, plain_up) = layer([H, factor * 50], Precision::F32);
                let (down, plain_down) = layer([50, H], Precision::F32);
                let x = random([300, H]);
                let expected = composed::feed_forward(x.clone(), [&plain_up, &plain_down], middle);
                on_threads(|| close(Flex::feed_forward(x.clone(), [&up, &down], middle), expected.clone(), 2e-4));
            }
        }
    }

    #[test]
    fn attention_is_as_burn_has_it() {
        let (texts, first) = texts([(1, 1), (70, 70), (13, 4), (40, 1), (300, 250)]);
        let (packed, plain) = layer([H, 3 * H], Precision::F32);
        let x = random([first, H]);
        let rotary = Rotary::new(100.0, H / 3);
        for window in [usize::MAX, 20, 0] {
            for rotary in [None, Some(&rotary)] {
                let sight = Seeing { texts: &texts, heads: 3, window, rotary, distances: false };
                let seen = Seen::new(sight, H, &Default::default());
                // Whole, and in pieces of some rows.
                for most in [usize::MAX, 5 * 3 * 300 * 40] {
                    let padded = Padded::new(&sight, H / 3, most, &Default::default());
                    let expected = composed::self_attention(x.clone(), &plain, None, 3, &padded);
                    on_threads(|| close(Flex::self_attention(x.clone(), &packed, &seen), expected.clone(), 1e-4));
                }
            }
        }
    }

    #[test]
    fn attention_that_knows_distances_is_as_burn_has_it() {
        let (texts, first) = texts([(1, 1), (70, 70), (2, 2), (300, 300), (33, 20)]);
        let (packed, plain) = layer([H, 3 * H], Precision::F32);
        let x = random([first, H]);
        let sight = Seeing { texts: &texts, heads: 3, window: usize::MAX, rotary: None, distances: true };
        let seen = Seen::new(sight, H, &Default::default());
        for places in [300, 500] {
            let [queries, keys] = [(); 2].map(|()| random([2 * places - 1, H]));
            let source = || {
                let (queries, keys) = (queries.clone(), keys.clone());
                DistanceSource { queries, keys, heads: 3, precision: Precision::F32 }
            };
            let distances = Flex::pack_distances(source());
            let expected = composed::Distances::new(source(), FloatDType::F32);
            for most in [usize::MAX, 5 * 3 * 300 * 40, 1] {
                let padded = Padded::new(&sight, H / 3, most, &Default::default());
                let expected = composed::self_attention(x.clone(), &plain, Some(&expected), 3, &padded);
                on_threads(|| {
                    let found = Flex::distance_attention(x.clone(), &packed, &distances, &seen);
                    close(found, expected.clone(), 1e-4);
                });
            }
        }
    }

    /// Against the sums themselves.
    #[test]
    fn distances_are_those_of_query_minus_key() {
        let (s, places, heads) = (5, 7, 2);
        let (packed, _) = layer([H, 3 * H], Precision::F32);
        let x = random([s, H]);
        let text = [Span { first: 0, len: s, attended: s }];
        let sight = Seeing { texts: &text, heads, window: usize::MAX, rotary: None, distances: true };
        let [queries, keys] = [(); 2].map(|()| random([2 * places - 1, H]));
        let source = DistanceSource { queries: queries.clone(), keys: keys.clone(), heads, precision: Precision::F32 };
        let distances = Flex::pack_distances(source);
        let found = Flex::distance_attention(x.clone(), &packed, &distances, &Seen::new(sight, H, &Default::default()));
        let qkv = Flex::linear_layer(x, &packed, Activation::Identity).into_data().to_vec::<f32>().unwrap();
        let [queries, keys] = [queries, keys].map(|table| table.into_data().to_vec::<f32>().unwrap());
        let width = H / heads;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let mut expected = vec![0.0; s * H];
        for (head, i) in (0..heads).flat_map(|head| (0..s).map(move |i| (head, i))) {
            let part = |part: usize, token: usize| &qkv[(3 * token + part) * H + head * width..][..width];
            let of = |table: &[f32], row: usize| table[row * H + head * width..][..width].to_vec();
            let score = |j: usize| {
                let key = of(&keys, places - 1 + j - i);
                let query = of(&queries, places - 1 + i - j);
                (dot(part(0, i), part(1, j)) + dot(part(0, i), &key) + dot(&query, part(1, j))) / (width as f32).sqrt()
            };
            let weights: Vec<f32> = (0..s).map(|j| score(j).exp()).collect();
            for (j, weight) in weights.iter().enumerate() {
                let share = weight / weights.iter().sum::<f32>();
                let to = &mut expected[i * H + head * width..][..width];
                to.iter_mut().zip(part(2, j)).for_each(|(to, value)| *to += share * value);
            }
        }
        close(found, tensor(expected, [s, H]), 1e-4);
    }

    #[test]
    fn norms_are_as_burn_has_them_and_leave_shared_tensors_alone() {
        let norm = LayerNorm { gamma: random([H]), beta: random([H]), epsilon: 1e-5 };
        let wide = random([9, 2 * H]);
        // Neither is contiguous.
        let (x, added) = (wide.clone().narrow(1, 0, H), wide.clone().narrow(1, H, H));
        let before = wide.to_data();
        for added in [None, Some(added)] {
            let expected = <Flex as composed::Parts>::add_norm(x.clone(), added.clone(), &norm);
            close(Flex::add_norm(x.clone(), added, &norm), expected, 1e-5);
        }
        let whole = wide.clone();
        let norm = LayerNorm { gamma: random([2 * H]), beta: random([2 * H]), epsilon: 1e-5 };
        close(
            Flex::add_norm(whole.clone(), None, &norm),
            <Flex as composed::Parts>::add_norm(whole, None, &norm),
            1e-5,
        );
        assert_eq!(wide.to_data(), before);
    }
}
