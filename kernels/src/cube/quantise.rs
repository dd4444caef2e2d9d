//! Rows coded: the residual off the nearest centroid in codes of a few bits, under a scale of its own.
//!
//! A unit takes a row. It goes through it three times, and a fourth time for fine codes: for the residual's root mean
//! square, which gives a first scale; for the sums that tell which scale brings the levels nearest to the residual; for
//! the codes under the nearest scale that can be said, and the length of what they stand for. Nothing but the answer is
//! written: residuals are computed again each time. The processor does the same (`ResidualCodec::encode`); what differs
//! is how sums round, so that a value on the border between two levels, or of two scales, may fall to either side.

use cubecl::prelude::*;
use latewood_simd::{FINE_MIDDLE, SCALES};

use super::{nearest, rotate};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::{Coder, Codes};

/// Units of a cube.
pub(crate) const UNITS: usize = 64;
/// Levels, scales, fine steps.
const CONSTANTS: usize = 16 + SCALES + 16;
/// Values that are summed by themselves, so that a sum of many rounds little.
const TOGETHER: usize = 8;

/// Two values of one dimension: a row's less its centroid's, and the centroid's.
type Pair = Vector<f32, Const<2>>;

/// Codes unit rows `[n, d]`, as the embeddings came.
///
/// # Errors
/// When the values are no rows of the coder's dimension; when they, or their codes, are too many for one allocation or
/// launch.
pub fn encode<R: Runtime>(client: &Client<R>, coder: &Coder, rows: &Buffer<f32>) -> Result<Codes, GpuError> {
    let rotated = rotate(client, coder, rows)?;
    let nearest = nearest(client, coder.centroids(), &rotated)?;
    let (codec, n) = (coder.codec(), nearest.len());
    let (words, fine_words) = (codec.words(), coder.fine_words());
    let outlines = client.empty("outlines", n)?;
    let codes = client.empty("codes", n * words)?;
    let fine = client.empty("fine codes", n * fine_words)?;
    if n > 0 {
        quantise_kernel::launch::<R>(
            client.raw(),
            client.cubes(n.div_ceil(UNITS))?,
            CubeDim::new_1d(UNITS as u32),
            rotated.arg(client)?,
            nearest.arg(client)?,
            codec.rows().arg(client)?,
            codec.row_scales().arg(client)?,
            coder.constants().arg(client)?,
            outlines.arg(client)?,
            codes.arg(client)?,
            fine.arg(client)?,
            coder.scale_per_rms(),
            coder.dim(),
            n,
            words,
            codec.bits() as usize,
            coder.fine(),
        );
    }
    Ok(Codes { dim: coder.dim(), bits: codec.bits(), outlines, codes, fine: coder.fine().then_some(fine) })
}

/// One unit a row. `centroids` are bytes, `[c, dim / 4]` words; `constants` are levels, scales and fine steps.
#[cube(launch)]
pub(super) fn quantise_kernel(
    rows: &Array<f32>,
    nearest: &Array<u32>,
    centroids: &Array<u32>,
    centroid_scales: &Array<f32>,
    constants: &Array<f32>,
    outlines: &mut Array<u32>,
    codes: &mut Array<u32>,
    fine: &mut Array<u32>,
    scale_per_rms: f32,
    dim: usize,
    n: usize,
    words: usize,
    #[comptime] bits: usize,
    #[comptime] has_fine: bool,
) {
    let mut tables = SharedMemory::<f32>::new(CONSTANTS);
    let mut i = UNIT_POS as usize;
    while i < CONSTANTS {
        tables[i] = constants[i];
        i += UNITS;
    }
    sync_cube();
    let row = ABSOLUTE_POS;
    if row < n {
        let borders = borders(&tables, bits);
        let centroid = nearest[row];
        let near = centroid as usize * (dim / 4);
        let unit = centroid_scales[centroid as usize];
        let at = row * dim;

        let squares = squares(rows, centroids, at, near, unit, dim);
        let guess = (squares[0] / f32::cast_from(dim as u32)).sqrt() * scale_per_rms;
        let wanted = wanted_scale(rows, centroids, &tables, &borders, at, near, unit, dim, guess, bits);
        let number = nearest_scale(&tables, wanted);
        let scale = tables[16 + number];
        let to = row * words;
        let sums = write_codes(rows, centroids, &tables, &borders, codes, at, near, unit, dim, scale, to, bits);
        let square = squares[1] + 2.0 * scale * sums[1] + scale * scale * sums[0];
        outlines[row] = centroid | (number as u32) << 26 | norm_steps(square) << 16;
        if has_fine {
            write_fine(rows, centroids, &tables, &borders, fine, at, near, unit, dim, scale, row, bits);
        }
    }
}

/// Where one level becomes nearer than the next.
#[cube]
fn borders(tables: &SharedMemory<f32>, #[comptime] bits: usize) -> Array<f32> {
    let mut borders = Array::<f32>::new(15usize);
    #[unroll]
    for i in 0..comptime!((1usize << bits) - 1) {
        borders[i] = (tables[i] + tables[i + 1]) * 0.5;
    }
    borders
}

/// The code whose level is nearest to `x`.
#[cube]
fn nearest_code(x: f32, borders: &Array<f32>, #[comptime] bits: usize) -> u32 {
    let mut code = 0u32;
    #[unroll]
    for i in 0..comptime!((1usize << bits) - 1) {
        code += select(x > borders[i], 1u32, 0u32);
    }
    code
}

/// Dimension `k` of the row that begins at `at` less that of its centroid, which begins at word `near`; and the latter.
#[cube]
fn residual(rows: &Array<f32>, centroids: &Array<u32>, at: usize, near: usize, unit: f32, k: usize) -> Pair {
    let byte = (centroids[near + k / 4] >> ((k % 4) * 8) as u32) & 255;
    let centroid = (f32::cast_from(byte) - 64.0) * unit;
    let mut pair = Pair::empty();
    pair[0] = rows[at + k] - centroid;
    pair[1] = centroid;
    pair
}

/// The sums of the squares of both.
#[cube]
fn squares(rows: &Array<f32>, centroids: &Array<u32>, at: usize, near: usize, unit: f32, dim: usize) -> Pair {
    let mut sums = Pair::new(0.0);
    let mut k = 0usize;
    while k < dim {
        let mut some = Pair::new(0.0);
        #[unroll]
        for i in 0..TOGETHER {
            let pair = residual(rows, centroids, at, near, unit, k + i);
            some += pair * pair;
        }
        sums += some;
        k += TOGETHER;
    }
    sums
}

/// The scale that brings the levels of a row's codes under the scale `guess` nearest to its residual, `<r, l> / <l, l>`.
#[cube]
fn wanted_scale(
    rows: &Array<f32>,
    centroids: &Array<u32>,
    tables: &SharedMemory<f32>,
    borders: &Array<f32>,
    at: usize,
    near: usize,
    unit: f32,
    dim: usize,
    guess: f32,
    #[comptime] bits: usize,
) -> f32 {
    let inverse = inverse(guess);
    let mut level_value = 0.0f32;
    let mut level_level = 0.0f32;
    let mut k = 0usize;
    while k < dim {
        let mut some_value = 0.0f32;
        let mut some_level = 0.0f32;
        #[unroll]
        for i in 0..TOGETHER {
            let pair = residual(rows, centroids, at, near, unit, k + i);
            let level = tables[nearest_code(pair[0] * inverse, borders, bits) as usize];
            some_value += level * pair[0];
            some_level += level * level;
        }
        level_value += some_value;
        level_level += some_level;
        k += TOGETHER;
    }
    let mut wanted = 0.0f32;
    if level_level > 0.0 {
        wanted = level_value / level_level;
    }
    wanted
}

#[cube]
fn inverse(scale: f32) -> f32 {
    let mut inverse = 0.0f32;
    if scale > 0.0 {
        inverse = 1.0 / scale;
    }
    inverse
}

/// The number of the scale nearest to `wanted`, as ratios go. Scales ascend.
#[cube]
fn nearest_scale(tables: &SharedMemory<f32>, wanted: f32) -> usize {
    let mut number = 0usize;
    for i in 1..SCALES {
        let (below, own) = (tables[15 + i], tables[16 + i]);
        if wanted > below && wanted * wanted >= below * own {
            number = i;
        }
    }
    number
}

/// Writes the row's codes under `scale`, packed in planes; returns the sums of `level * level` and `level * centroid`.
#[cube]
fn write_codes(
    rows: &Array<f32>,
    centroids: &Array<u32>,
    tables: &SharedMemory<f32>,
    borders: &Array<f32>,
    codes: &mut Array<u32>,
    at: usize,
    near: usize,
    unit: f32,
    dim: usize,
    scale: f32,
    to: usize,
    #[comptime] bits: usize,
) -> Pair {
    let inverse = inverse(scale);
    let plane = dim * bits / 8;
    let mut sums = Pair::new(0.0);
    let mut word = 0u32;
    let mut byte = 0usize;
    while byte < plane {
        let mut some = Pair::new(0.0);
        #[unroll]
        for p in 0..comptime!(8 / bits) {
            let pair = residual(rows, centroids, at, near, unit, p * plane + byte);
            let code = nearest_code(pair[0] * inverse, borders, bits);
            let level = tables[code as usize];
            some[0] += level * level;
            some[1] += level * pair[1];
            word |= code << ((byte % 4) * 8 + p * bits) as u32;
        }
        sums += some;
        // The last word may be cut short.
        if byte % 4 == 3 || byte + 1 == plane {
            codes[to + byte / 4] = word;
            word = 0;
        }
        byte += 1;
    }
    sums
}

/// One over the root of `square` as the lower bits of a token's factors: steps of 1/1024 above 0.5.
#[cube]
fn norm_steps(square: f32) -> u32 {
    let mut inverse_norm = 1.0f32;
    // What has no length points nowhere; any factor leaves it so.
    if square > 1e-6 {
        inverse_norm = 1.0 / square.sqrt();
    }
    u32::cast_from(clamp((inverse_norm - 0.5) * 1024.0, 0.0, 1023.0) + 0.5)
}

/// Writes the fine codes of row `row`: what its codes leave of the residual, in even steps.
#[cube]
fn write_fine(
    rows: &Array<f32>,
    centroids: &Array<u32>,
    tables: &SharedMemory<f32>,
    borders: &Array<f32>,
    fine: &mut Array<u32>,
    at: usize,
    near: usize,
    unit: f32,
    dim: usize,
    scale: f32,
    row: usize,
    #[comptime] bits: usize,
) {
    let inverse = inverse(scale);
    let plane = dim / 2;
    for word in 0..plane / 4 {
        let mut packed = 0u32;
        #[unroll]
        for i in 0..8usize {
            let k = comptime!(i % 2) * plane + word * 4 + comptime!(i / 2);
            let pair = residual(rows, centroids, at, near, unit, k);
            let x = pair[0] * inverse;
            let code = nearest_code(x, borders, bits) as usize;
            let left = (x - tables[code]) / tables[16 + SCALES + code] + FINE_MIDDLE;
            packed |= u32::cast_from(clamp(left, 0.0, 15.0) + 0.5) << comptime!((i * 4) as u32);
        }
        fine[row * (plane / 4) + word] = packed;
    }
}
