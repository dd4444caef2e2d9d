//! Attention in one kernel, for planes of 32 units and matrix units (FlashAttention-2, Dao 2023, arXiv:2307.08691).
//!
//! A plane takes 16 tokens of a text in one head, and goes through the tokens that they see, 32 at a time: scores, the
//! largest of a row so far, weights, and the sum of weighted values all stay in its registers. Texts lie one after the
//! other as they are, without padding.
//!
//! Which of a head's dimensions a unit holds is ours to choose as long as both factors of a product agree. So a unit reads
//! neighbouring words: of queries and keys a part of the first half of the dimensions and the same part of the second, of
//! values the dimensions that are its columns of the result.
//!
//! No software adapter has matrix units: tests run the kernel on an emulated CUDA device (`kernels/emulator`). On a GPU it has not
//! run yet: `probe.rs` compares it with its formula there, and without agreement it is left.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cmma::MmaDefinition;
use cubecl::features::{MmaConfig, Plane};
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

use crate::batch::Span;

/// Units of a plane.
const PLANE: usize = 32;
/// Planes of a cube.
const PLANES: usize = 4;
/// Tokens of a plane.
const QUERIES: usize = 16;
/// Tokens seen at a time.
const KEYS: usize = 32;
/// Words of a [`tiles`] entry.
const TILE: usize = 4;
/// Below all scores.
const LOWEST: f32 = -1.0e30;

/// Two values as they lie in a word.
type Two<F> = Vector<F, Const<2>>;
type Sums = Array<Vector<f32, Const<2>>>;

/// Whether the device has what the kernel takes, for heads of `width` dimensions in `numbers`.
pub(super) fn offered<R: CubeRuntime>(client: &ComputeClient<R>, width: usize, numbers: DType) -> bool {
    let kind = match numbers {
        DType::F16 => FloatKind::F16,
        DType::BF16 => FloatKind::BF16,
        _ => return false,
    };
    let (half, single) = (ElemType::Float(kind), ElemType::Float(FloatKind::F32));
    let product = MmaConfig { a_type: half.into(), b_type: half.into(), cd_type: single.into(), m: 16, n: 8, k: 16 };
    let properties = client.properties();
    let hardware = &properties.hardware;
    width.is_multiple_of(16)
        && width <= 128
        && properties.features.matmul.mma.contains(&product)
        && properties.features.plane.contains(Plane::Ops)
        && [hardware.plane_size_min, hardware.plane_size_max] == [PLANE as u32; 2]
        && hardware.max_units_per_cube as usize >= PLANE * PLANES
}

/// What planes take, `[tiles, 4]`: the first row of a text, its tokens, how many of them are seen, and the first token that is
/// the plane's.
pub(super) fn tiles(texts: &[Span]) -> Vec<i32> {
    let of_text = |text: &Span| {
        let (first, len, attended) = (text.first as i32, text.len as i32, text.attended as i32);
        (0..len).step_by(QUERIES).flat_map(move |from| [first, len, attended, from])
    };
    texts.iter().flat_map(of_text).collect()
}

/// `softmax(q k^T / sqrt(width)) v` in each head of `qkv`, `[n, 3 h]` in half precision, for the [`tiles`] of its texts; a
/// token sees those up to `window` away. `[n, h]`, zeros for a token that sees none.
pub(super) fn attention<R: CubeRuntime>(
    qkv: CubeTensor<R>,
    tiles: CubeTensor<R>,
    heads: usize,
    window: usize,
) -> CubeTensor<R> {
    let [n, wide] = [qkv.meta.shape()[0], qkv.meta.shape()[1]];
    let head = Head::new(heads, wide / 3 / heads);
    let shape = burn::tensor::Shape::from([n, wide / 3]);
    let out = empty_device_dtype(qkv.client.clone(), qkv.device.clone(), shape, qkv.dtype);
    let count = tiles.meta.shape().num_elements() / TILE;
    // Rows may lie further apart than they are long, but begin where a vector does.
    for tensor in [&qkv, &out] {
        let strides = tensor.meta.strides();
        assert!(strides[1] == 1 && strides[0].is_multiple_of(2 * head.vector), "rows that lie {strides:?} apart");
    }
    let [row, out_row] = [&qkv, &out].map(|tensor| head.vectors(tensor.meta.strides()[0]));
    let launch = match qkv.dtype {
        DType::BF16 => attention_kernel::launch::<half::bf16, R>,
        _ => attention_kernel::launch::<half::f16, R>,
    };
    launch(
        &out.client,
        CubeCount::Static(count.div_ceil(PLANES) as u32, heads as u32, 1),
        cube_dim(),
        head.vector,
        qkv.into_array_arg(),
        tiles.into_array_arg(),
        out.clone().into_array_arg(),
        1.0 / (head.width as f32).sqrt(),
        count,
        window.min(1 << 30),
        row,
        out_row,
        head,
    );
    out
}

fn cube_dim() -> CubeDim {
    CubeDim::new_2d(PLANE as u32, PLANES as u32)
}

/// How heads lie in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Head {
    heads: usize,
    /// Dimensions of one.
    width: usize,
    /// Words that are read together.
    vector: usize,
    /// Words of a unit's part of half a head, and of a result's columns.
    words: usize,
}

impl Head {
    fn new(heads: usize, width: usize) -> Self {
        let words = width / 16;
        let vector = [4, 2].into_iter().find(|vector| words.is_multiple_of(*vector)).unwrap_or(1);
        Self { heads, width, vector, words }
    }

    /// Vectors of so many dimensions.
    fn vectors(self, dimensions: usize) -> usize {
        dimensions / 2 / self.vector
    }
}

/// One plane a tile; a head in `y`. `qkv` are `[n, 3, heads, width]`, `out` `[n, heads, width]`, two values a word, their
/// rows `row` and `out_row` vectors apart.
#[cube(launch)]
fn attention_kernel<F: Float, V: Size>(
    qkv: &Array<Vector<u32, V>>,
    tiles: &Array<u32>,
    out: &mut Array<Vector<u32, V>>,
    scale: f32,
    count: usize,
    window: usize,
    row: usize,
    out_row: usize,
    #[comptime] head: Head,
) {
    let tile = CUBE_POS_X as usize * PLANES + UNIT_POS_Y as usize;
    if tile < count {
        let (first, len) = (tiles[tile * TILE] as usize, tiles[tile * TILE + 1] as usize);
        let (attended, from) = (tiles[tile * TILE + 2] as usize, tiles[tile * TILE + 3] as usize);
        let (group, quarter) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
        let part = comptime!(head.vectors(head.heads * head.width));
        let chunk = comptime!(head.words / head.vector);
        let of_head = CUBE_POS_Y as usize * comptime!(head.vectors(head.width));
        let own = of_head + quarter * chunk;

        let (low, high) = (min(from + group, len - 1), min(from + group + 8, len - 1));
        let low_query = halves::<V>(qkv, (first + low) * row + own, head);
        let high_query = halves::<V>(qkv, (first + high) * row + own, head);
        let mut sums = Sequence::<Sums>::new();
        #[unroll]
        for _ in 0..comptime!(2 * head.words) {
            sums.push(zeros());
        }
        let mut most = Array::<f32>::new(2usize);
        let mut total = Array::<f32>::new(2usize);
        #[unroll]
        for i in 0..2usize {
            most[i] = LOWEST;
            total[i] = 0.0;
        }
        // What any of the plane's tokens sees.
        let end = min(attended, min(from + QUERIES, len) + window);
        let mut key = from - min(from, window);
        while key < end {
            let mut scores = Sequence::<Sums>::new();
            #[unroll]
            for keys in 0..comptime!(KEYS / 8) {
                let seen = first + min(key + comptime!(keys * 8) + group, len - 1);
                let key_halves = halves::<V>(qkv, seen * row + part + own, head);
                let mut products = zeros();
                multiply::<F>(&low_query, &high_query, &key_halves, &mut products, head.words);
                scores.push(products);
            }
            let mut weights = Array::<u32>::new(comptime!(2 * KEYS / 8));
            #[unroll]
            for i in 0..2usize {
                let query = if comptime!(i == 0) { low } else { high };
                let seen = (key + quarter * 2, query - min(query, window), min(attended, query + window + 1));
                weigh::<F>(&scores, i, seen, scale, &mut most, &mut total, &mut sums, &mut weights, head.words);
            }
            #[unroll]
            for step in 0..comptime!(KEYS / 16) {
                let from = key + comptime!(step * 16) + quarter * 2;
                let values = columns::<V>(qkv, first, len, from, row, 2 * part + of_head + group * chunk, head);
                add::<F>(&values, &weights, step, &mut sums, head.words);
            }
            key += KEYS;
        }
        #[unroll]
        for i in 0..2usize {
            let mut whole = total[i];
            whole += plane_shuffle_xor(whole, 1u32);
            whole += plane_shuffle_xor(whole, 2u32);
            let share = select(whole > 0.0, 1.0 / whole, 0.0);
            let token = from + group + comptime!(i * 8);
            if token < len {
                let to = (first + token) * out_row + of_head + quarter * comptime!(2 * chunk);
                write::<F, V>(out, to, &sums, share, i, head);
            }
        }
    }
}

/// A unit's words of a row's first half, then of its second.
#[cube]
fn halves<V: Size>(qkv: &Array<Vector<u32, V>>, at: usize, #[comptime] head: Head) -> Array<u32> {
    let mut words = Array::<u32>::new(comptime!(2 * head.words));
    #[unroll]
    for half in 0..2usize {
        #[unroll]
        for i in 0..comptime!(head.words / head.vector) {
            let vector = qkv.read_unchecked(at + comptime!(half * head.vectors(head.width / 2) + i));
            #[unroll]
            for word in 0..head.vector {
                words[comptime!(half * head.words + i * head.vector + word)] = vector[word];
            }
        }
    }
    words
}

/// Adds to `products` those of 16 queries with 8 keys.
#[cube]
fn multiply<F: Float>(
    low_query: &Array<u32>,
    high_query: &Array<u32>,
    keys: &Array<u32>,
    products: &mut Sums,
    #[comptime] words: usize,
) {
    let unit = MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    #[unroll]
    for word in 0..words {
        let mut queries = Array::<Two<F>>::new(4usize);
        queries[0] = Two::<F>::reinterpret(low_query[word]);
        queries[1] = Two::<F>::reinterpret(high_query[word]);
        queries[2] = Two::<F>::reinterpret(low_query[comptime!(words + word)]);
        queries[3] = Two::<F>::reinterpret(high_query[comptime!(words + word)]);
        let mut own = Array::<Two<F>>::new(2usize);
        own[0] = Two::<F>::reinterpret(keys[word]);
        own[1] = Two::<F>::reinterpret(keys[comptime!(words + word)]);
        unit.execute_inplace(&queries, &own, products);
    }
}

/// From the scores of the `i`-th of a unit's tokens to weights, in units of that of the largest score so far; what was
/// summed up before is brought to the same. `seen` are the unit's first key, the first that the token sees, and the one
/// after the last.
#[cube]
fn weigh<F: Float>(
    scores: &Sequence<Sums>,
    #[comptime] i: usize,
    seen: (usize, usize, usize),
    scale: f32,
    most: &mut Array<f32>,
    total: &mut Array<f32>,
    sums: &mut Sequence<Sums>,
    weights: &mut Array<u32>,
    #[comptime] words: usize,
) {
    let (key, start, end) = seen;
    let mut largest = most[i];
    let mut values = Array::<f32>::new(comptime!(KEYS / 4));
    #[unroll]
    for at in 0..comptime!(KEYS / 4) {
        let other = key + comptime!(at / 2 * 8 + at % 2);
        let score = scores.index(comptime!(at / 2))[i][comptime!(at % 2)] * scale;
        values[at] = select(other >= start && other < end, score, LOWEST);
        largest = max(largest, values[at]);
    }
    largest = max(largest, plane_shuffle_xor(largest, 1u32));
    largest = max(largest, plane_shuffle_xor(largest, 2u32));
    let shrink = (most[i] - largest).exp();
    let mut sum = total[i] * shrink;
    #[unroll]
    for pair in 0..comptime!(KEYS / 8) {
        let mut two = Two::<F>::empty();
        #[unroll]
        for at in 0..2usize {
            let value = values[comptime!(pair * 2 + at)];
            // Where nothing is seen yet, the largest is no score.
            let weight = select(value > LOWEST, (value - largest).exp(), 0.0);
            sum += weight;
            two[at] = F::cast_from(weight);
        }
        weights[comptime!(i * KEYS / 8 + pair)] = u32::reinterpret(two);
    }
    #[unroll]
    for at in 0..comptime!(2 * words) {
        let own = sums.index_mut(at);
        own[i] = own[i] * Vector::new(shrink);
    }
    most[i] = largest;
    total[i] = sum;
}

/// A unit's columns of the values of 16 keys, as the matrix units take them: for each column two words of two keys.
#[cube]
fn columns<V: Size>(
    qkv: &Array<Vector<u32, V>>,
    first: usize,
    len: usize,
    key: usize,
    row: usize,
    at: usize,
    #[comptime] head: Head,
) -> Array<u32> {
    let mut values = Array::<u32>::new(comptime!(4 * head.words));
    #[unroll]
    for half in 0..2usize {
        let (even, odd) = (min(key + comptime!(half * 8), len - 1), min(key + comptime!(half * 8 + 1), len - 1));
        #[unroll]
        for i in 0..comptime!(head.words / head.vector) {
            let even = qkv.read_unchecked((first + even) * row + at + i);
            let odd = qkv.read_unchecked((first + odd) * row + at + i);
            #[unroll]
            for word in 0..head.vector {
                let to = comptime!((i * head.vector + word) * 4 + half);
                values[to] = (even[word] & 0xffff) | (odd[word] << 16);
                values[comptime!(to + 2)] = (even[word] >> 16) | (odd[word] & 0xffff_0000u32);
            }
        }
    }
    values
}

/// Adds to `sums` the `step`-th 16 weights times their values.
#[cube]
fn add<F: Float>(
    values: &Array<u32>,
    weights: &Array<u32>,
    #[comptime] step: usize,
    sums: &mut Sequence<Sums>,
    #[comptime] words: usize,
) {
    let unit = MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    let high = comptime!(KEYS / 8);
    let mut own = Array::<Two<F>>::new(4usize);
    own[0] = Two::<F>::reinterpret(weights[comptime!(step * 2)]);
    own[1] = Two::<F>::reinterpret(weights[comptime!(high + step * 2)]);
    own[2] = Two::<F>::reinterpret(weights[comptime!(step * 2 + 1)]);
    own[3] = Two::<F>::reinterpret(weights[comptime!(high + step * 2 + 1)]);
    #[unroll]
    for column in 0..comptime!(2 * words) {
        let mut keys = Array::<Two<F>>::new(2usize);
        keys[0] = Two::<F>::reinterpret(values[comptime!(column * 2)]);
        keys[1] = Two::<F>::reinterpret(values[comptime!(column * 2 + 1)]);
        unit.execute_inplace(&own, &keys, sums.index_mut(column));
    }
}

/// Writes the result of the `i`-th of a unit's tokens: its even columns, then its odd ones.
#[cube]
fn write<F: Float, V: Size>(
    out: &mut Array<Vector<u32, V>>,
    to: usize,
    sums: &Sequence<Sums>,
    share: f32,
    #[comptime] i: usize,
    #[comptime] head: Head,
) {
    let chunk = comptime!(head.words / head.vector);
    #[unroll]
    for at in 0..comptime!(2 * chunk) {
        let mut vector = Vector::<u32, V>::empty();
        #[unroll]
        for word in 0..head.vector {
            let column = comptime!((at % chunk * head.vector + word) * 2);
            let mut two = Two::<F>::empty();
            two[0] = F::cast_from(sums.index(column)[i][comptime!(at / chunk)] * share);
            two[1] = F::cast_from(sums.index(comptime!(column + 1))[i][comptime!(at / chunk)] * share);
            vector[word] = u32::reinterpret(two);
        }
        out[to + at] = vector;
    }
}

#[cube]
fn zeros() -> Sums {
    let mut sums = Sums::new(2usize);
    sums[0] = Vector::new(0.0);
    sums[1] = Vector::new(0.0);
    sums
}
