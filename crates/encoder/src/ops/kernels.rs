//! Kernels for what would be chains of launches: a launch costs the host more than a small batch keeps a GPU busy.
//!
//! Each is the twin of a default method of [`super::composed::Parts`]. Tensors may have rows that lie further apart than
//! they are long.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::StorageType;
use cubecl::prelude::*;

/// Units that share a row: two to the sixth.
const UNITS: usize = 64;

/// Cubes in one dimension of a launch, at most: any GPU allows so many.
const MOST_CUBES: usize = 65_535;

/// Below all scores.
const LOWEST: f32 = -3.0e38;

/// What is normalised: rows of `f32`, `[n, h]`.
pub(super) struct Sum<R: CubeRuntime> {
    pub(super) x: CubeTensor<R>,
    /// `[h]`
    pub(super) bias: Option<CubeTensor<R>>,
    /// `[n, h]`
    pub(super) added: Option<CubeTensor<R>>,
}

/// `norm(x + bias + added)`, `[n, h]`, in `f32`.
pub(super) fn add_norm<R: CubeRuntime>(sum: Sum<R>, vectors: [CubeTensor<R>; 2], epsilon: f32) -> CubeTensor<R> {
    // The sums are written anyway, to be read again.
    let [_, norm] = add_norm_both(sum, vectors, epsilon, Beside::Sum, DType::F32);
    norm
}

/// What [`add_norm_both`] gives beside the norm in the numbers of a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// The norm, in `f32`.
    Norm,
    /// What is normalised, in `f32`.
    Sum,
}

/// What is `beside`, and `norm(x + bias + added)` rounded to `numbers`.
pub(super) fn add_norm_both<R: CubeRuntime>(
    Sum { x, bias, added }: Sum<R>,
    [gamma, beta]: [CubeTensor<R>; 2],
    epsilon: f32,
    beside: Beside,
    numbers: DType,
) -> [CubeTensor<R>; 2] {
    let [out, rounded] = [DType::F32, numbers].map(|numbers| like(&x, x.meta.shape().clone(), numbers));
    let rows = x.meta.shape()[0];
    let (biased, adds) = (bias.is_some(), added.is_some());
    add_norm_both_kernel::launch::<R>(
        &out.client,
        cubes(rows),
        CubeDim::new_1d(UNITS as u32),
        x.clone().into_tensor_arg(),
        bias.unwrap_or_else(|| gamma.clone()).into_tensor_arg(),
        added.unwrap_or(x).into_tensor_arg(),
        gamma.into_tensor_arg(),
        beta.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        rounded.clone().into_tensor_arg(),
        epsilon,
        rows,
        biased,
        adds,
        beside == Beside::Sum,
        numbers.into(),
    );
    [out, rounded]
}

/// `softmax(scale * scores + hidden)` of each row, in `numbers`; `scores` `[b, heads, q, k]`, `hidden` `[b, q, k]`, or 1
/// instead of `b`, of `q` or of both.
pub(super) fn attention_weights<R: CubeRuntime>(
    scores: CubeTensor<R>,
    scale: f32,
    hidden: Option<CubeTensor<R>>,
    numbers: DType,
) -> CubeTensor<R> {
    let shape = scores.meta.shape().clone();
    let out = like(&scores, shape.clone(), numbers);
    let rows = shape[0] * shape[1] * shape[2];
    let hides = hidden.is_some();
    attention_weights_kernel::launch::<R>(
        &out.client,
        cubes(rows),
        CubeDim::new_1d(UNITS as u32),
        scores.clone().into_tensor_arg(),
        hidden.unwrap_or(scores).into_tensor_arg(),
        out.clone().into_tensor_arg(),
        scale,
        rows,
        hides,
        numbers.into(),
    );
    out
}

/// What is done to `x + bias`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Steps {
    /// GELU, of all values or of those of the first half.
    pub(super) gelu: bool,
    /// The first half of a row times the second.
    pub(super) gated: bool,
}

/// `steps` of `x + bias`, in `numbers`; `x` `[n, w]`, `bias` `[w]`.
pub(super) fn biased<R: CubeRuntime>(
    x: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    steps: Steps,
    numbers: DType,
) -> CubeTensor<R> {
    let mut shape = x.meta.shape().clone();
    if steps.gated {
        shape[1] /= 2;
    }
    let values = shape[0] * shape[1];
    let out = like(&x, shape, numbers);
    let adds = bias.is_some();
    let given = x.dtype;
    // What stands for no bias is read by nobody.
    let bias = bias.unwrap_or_else(|| like(&x, [1].into(), DType::F32));
    biased_kernel::launch::<R>(
        &out.client,
        cubes(values.div_ceil(UNITS)),
        CubeDim::new_1d(UNITS as u32),
        x.into_tensor_arg(),
        bias.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        values,
        adds,
        steps.gelu,
        steps.gated,
        given.into(),
        numbers.into(),
    );
    out
}

/// The means of rows of `x`, `[n, h]` in `f32`: of each of `spans`, `[texts, 2]`, a first row and how many. `[texts, h]`.
pub(super) fn means<R: CubeRuntime>(x: CubeTensor<R>, spans: CubeTensor<R>) -> CubeTensor<R> {
    let (texts, width) = (spans.meta.shape().num_elements() / 2, x.meta.shape()[1]);
    let out = like(&x, [texts, width].into(), DType::F32);
    means_kernel::launch::<R>(
        &out.client,
        CubeCount::Static(width.div_ceil(UNITS) as u32, texts as u32, 1),
        CubeDim::new_1d(UNITS as u32),
        x.into_tensor_arg(),
        spans.into_array_arg(),
        out.clone().into_tensor_arg(),
    );
    out
}

/// The rows of `x`, `[rows, h]`, that `ids` name, `[n]`: `[n, h]`. (Burn's own kernel for it reads beyond `ids` where `h` is more
/// than `n`, though it makes no use of that.)
pub(super) fn rows<R: CubeRuntime>(x: CubeTensor<R>, ids: CubeTensor<R>) -> CubeTensor<R> {
    let (n, width) = (ids.meta.shape().num_elements(), x.meta.shape()[1]);
    let (out, numbers) = (like(&x, [n, width].into(), x.dtype), x.dtype);
    rows_kernel::launch::<R>(
        &out.client,
        cubes((n * width).div_ceil(UNITS)),
        CubeDim::new_1d(UNITS as u32),
        x.into_tensor_arg(),
        ids.into_array_arg(),
        out.clone().into_tensor_arg(),
        n * width,
        numbers.into(),
    );
    out
}

/// How queries and keys are turned by the places of their tokens.
pub(super) struct Turn<R: CubeRuntime> {
    /// `[n]`: the place of each row in its text.
    pub(super) places: CubeTensor<R>,
    /// `[s, width / 2]` each.
    pub(super) cos: CubeTensor<R>,
    pub(super) sin: CubeTensor<R>,
    pub(super) heads: usize,
}

/// `x + bias` in `numbers`, queries and keys turned; `x` `[n, 3 h]`, queries, keys and values of all heads.
pub(super) fn turned<R: CubeRuntime>(
    x: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    turn: &Turn<R>,
    numbers: DType,
) -> CubeTensor<R> {
    let out = like(&x, x.meta.shape().clone(), numbers);
    let [rows, wide] = [x.meta.shape()[0], x.meta.shape()[1]];
    let pairs = rows * wide / 2;
    let [row, out_row] = [&x, &out].map(|tensor| tensor.meta.strides()[0]);
    let adds = bias.is_some();
    let given = x.dtype;
    let bias = bias.unwrap_or_else(|| like(&x, [1].into(), DType::F32));
    turned_kernel::launch::<R>(
        &out.client,
        cubes(pairs.div_ceil(UNITS)),
        CubeDim::new_1d(UNITS as u32),
        x.into_array_arg(),
        bias.into_array_arg(),
        turn.places.clone().into_array_arg(),
        turn.cos.clone().into_array_arg(),
        turn.sin.clone().into_array_arg(),
        out.clone().into_array_arg(),
        pairs,
        wide,
        wide / 3 / turn.heads,
        row,
        out_row,
        adds,
        given.into(),
        numbers.into(),
    );
    out
}

/// A tensor on the device of `x`.
fn like<R: CubeRuntime>(x: &CubeTensor<R>, shape: burn::tensor::Shape, numbers: DType) -> CubeTensor<R> {
    empty_device_dtype(x.client.clone(), x.device.clone(), shape, numbers)
}

fn cubes(n: usize) -> CubeCount {
    CubeCount::Static(n.min(MOST_CUBES) as u32, n.div_ceil(MOST_CUBES) as u32, 1)
}

#[cube(launch)]
fn add_norm_both_kernel<F: Float>(
    x: &Tensor<f32>,
    bias: &Tensor<f32>,
    added: &Tensor<f32>,
    gamma: &Tensor<f32>,
    beta: &Tensor<f32>,
    out: &mut Tensor<f32>,
    rounded: &mut Tensor<F>,
    epsilon: f32,
    rows: usize,
    #[comptime] biased: bool,
    #[comptime] adds: bool,
    #[comptime] keeps_sum: bool,
    #[define(F)] _numbers: StorageType,
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let mean = add_row(x, bias, added, out, biased, adds);
    let deviation = deviation_of_row(out, mean, epsilon);
    let (to, rounded_to) = (CUBE_POS * out.stride(0), CUBE_POS * rounded.stride(0));
    let mut i = UNIT_POS as usize;
    while i < out.shape(1) {
        let value = (out[to + i] - mean) / deviation * gamma[i] + beta[i];
        rounded[rounded_to + i] = F::cast_from(value);
        if !keeps_sum {
            out[to + i] = value;
        }
        i += UNITS;
    }
}

/// Puts the sums of this cube's row into `out`; their mean. A unit alone reads again what it has written.
#[cube]
fn add_row(
    x: &Tensor<f32>,
    bias: &Tensor<f32>,
    added: &Tensor<f32>,
    out: &mut Tensor<f32>,
    #[comptime] biased: bool,
    #[comptime] adds: bool,
) -> f32 {
    let row = CUBE_POS;
    let to = row * out.stride(0);
    let mut sum = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < x.shape(1) {
        let mut value = x[row * x.stride(0) + i * x.stride(1)];
        if biased {
            value += bias[i];
        }
        if adds {
            value += added[row * added.stride(0) + i * added.stride(1)];
        }
        out[to + i] = value;
        sum += value;
        i += UNITS;
    }
    sum_of_units(sum) / x.shape(1) as f32
}

#[cube]
fn deviation_of_row(x: &Tensor<f32>, mean: f32, epsilon: f32) -> f32 {
    let first = CUBE_POS * x.stride(0);
    let mut squares = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < x.shape(1) {
        let off = x[first + i] - mean;
        squares += off * off;
        i += UNITS;
    }
    (sum_of_units(squares) / x.shape(1) as f32 + epsilon).sqrt()
}

#[cube(launch)]
fn rows_kernel<F: Float>(
    x: &Tensor<F>,
    ids: &Array<u32>,
    out: &mut Tensor<F>,
    values: usize,
    #[define(F)] _numbers: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at < values {
        let (row, column) = (at / out.shape(1), at % out.shape(1));
        out[row * out.stride(0) + column] = x[ids[row] as usize * x.stride(0) + column * x.stride(1)];
    }
}

/// One cube for [`UNITS`] columns, in `x`, of a text, in `y`.
#[cube(launch)]
fn means_kernel(x: &Tensor<f32>, spans: &Array<u32>, out: &mut Tensor<f32>) {
    let column = CUBE_POS_X as usize * UNITS + UNIT_POS as usize;
    let text = CUBE_POS_Y as usize;
    if column < x.shape(1) {
        let (first, count) = (spans[text * 2] as usize, spans[text * 2 + 1] as usize);
        let mut sum = 0.0f32;
        for row in 0..count {
            sum += x[(first + row) * x.stride(0) + column * x.stride(1)];
        }
        // Of nothing it is 0.
        out[text * out.stride(0) + column] = sum / f32::cast_from(max(count, 1) as u32);
    }
}

#[cube(launch)]
fn attention_weights_kernel<F: Float>(
    scores: &Tensor<f32>,
    hidden: &Tensor<f32>,
    out: &mut Tensor<F>,
    scale: f32,
    rows: usize,
    #[comptime] hides: bool,
    #[define(F)] _numbers: StorageType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let heads = scores.shape(1);
    let queries = scores.shape(2);
    let keys = scores.shape(3);
    let query = row % queries;
    let head = row / queries % heads;
    let text = row / (queries * heads);
    let from = text * scores.stride(0) + head * scores.stride(1) + query * scores.stride(2);
    let to = text * out.stride(0) + head * out.stride(1) + query * out.stride(2);
    let mut unseen = 0usize;
    if hides {
        unseen = (text % hidden.shape(0)) * hidden.stride(0) + (query % hidden.shape(1)) * hidden.stride(1);
    }
    let unit = UNIT_POS as usize;
    let mut most = f32::new(LOWEST);
    let mut i = unit;
    while i < keys {
        most = max(most, score(scores, hidden, from + i, unseen + i, scale, hides));
        i += UNITS;
    }
    most = most_of_units(most);
    let mut sum = 0.0f32;
    i = unit;
    while i < keys {
        sum += (score(scores, hidden, from + i, unseen + i, scale, hides) - most).exp();
        i += UNITS;
    }
    sum = sum_of_units(sum);
    i = unit;
    while i < keys {
        let weight = (score(scores, hidden, from + i, unseen + i, scale, hides) - most).exp() / sum;
        out[to + i] = F::cast_from(weight);
        i += UNITS;
    }
}

#[cube]
fn score(
    scores: &Tensor<f32>,
    hidden: &Tensor<f32>,
    at: usize,
    unseen: usize,
    scale: f32,
    #[comptime] hides: bool,
) -> f32 {
    let mut score = scores[at] * scale;
    if hides {
        score += hidden[unseen];
    }
    score
}

#[cube(launch)]
fn biased_kernel<G: Float, F: Float>(
    x: &Tensor<G>,
    bias: &Tensor<f32>,
    out: &mut Tensor<F>,
    values: usize,
    #[comptime] adds: bool,
    #[comptime] gelu: bool,
    #[comptime] gated: bool,
    #[define(G)] _given: StorageType,
    #[define(F)] _numbers: StorageType,
) {
    if ABSOLUTE_POS >= values {
        terminate!();
    }
    let width = out.shape(1);
    let row = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    let from = row * x.stride(0);
    let mut value = f32::cast_from(x[from + column]);
    if adds {
        value += bias[column];
    }
    if gelu {
        value = gelu_of::<f32>(value);
    }
    if gated {
        let mut gate = f32::cast_from(x[from + column + width]);
        if adds {
            gate += bias[column + width];
        }
        value *= gate;
    }
    out[row * out.stride(0) + column] = F::cast_from(value);
}

/// One unit for the two values of a head that are turned together. `x` and `out` are `[rows, wide]`, their rows `x_row` and
/// `out_row` values apart.
#[cube(launch)]
fn turned_kernel<G: Float, F: Float>(
    x: &Array<G>,
    bias: &Array<f32>,
    places: &Array<u32>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    out: &mut Array<F>,
    pairs: usize,
    wide: usize,
    width: usize,
    x_row: usize,
    out_row: usize,
    #[comptime] adds: bool,
    #[define(G)] _given: StorageType,
    #[define(F)] _numbers: StorageType,
) {
    if ABSOLUTE_POS >= pairs {
        terminate!();
    }
    let half = width / 2;
    let row = ABSOLUTE_POS / (wide / 2);
    let pair = ABSOLUTE_POS % (wide / 2);
    let column = pair / half * width + pair % half;
    let at = row * x_row + column;
    let mut first = f32::cast_from(x[at]);
    let mut second = f32::cast_from(x[at + half]);
    if adds {
        first += bias[column];
        second += bias[column + half];
    }
    // Values stay as they are.
    if column < wide / 3 * 2 {
        let angle = places[row] as usize * half + pair % half;
        let (c, s) = (cos[angle], sin[angle]);
        let before = first;
        first = first * c - second * s;
        second = second * c + before * s;
    }
    let to = row * out_row + column;
    out[to] = F::cast_from(first);
    out[to + half] = F::cast_from(second);
}

#[cube]
pub(super) fn gelu_of<F: Float>(x: F) -> F {
    x * F::new(0.5) * (F::new(1.0) + (x * F::new(std::f32::consts::FRAC_1_SQRT_2)).erf())
}

/// The sum of `value` over the units of a cube.
#[cube]
fn sum_of_units(value: f32) -> f32 {
    let mut values = SharedMemory::<f32>::new(UNITS);
    let unit = UNIT_POS as usize;
    values[unit] = value;
    sync_cube();
    #[unroll]
    for halvings in 1..7 {
        let left = comptime!(UNITS >> halvings);
        if unit < left {
            values[unit] = values[unit] + values[unit + left];
        }
        sync_cube();
    }
    let sum = values[0];
    // The next values go where these are.
    sync_cube();
    sum
}

/// The largest `value` of the units of a cube.
#[cube]
fn most_of_units(value: f32) -> f32 {
    let mut values = SharedMemory::<f32>::new(UNITS);
    let unit = UNIT_POS as usize;
    values[unit] = value;
    sync_cube();
    #[unroll]
    for halvings in 1..7 {
        let left = comptime!(UNITS >> halvings);
        if unit < left {
            values[unit] = max(values[unit], values[unit + left]);
        }
        sync_cube();
    }
    let most = values[0];
    sync_cube();
    most
}
