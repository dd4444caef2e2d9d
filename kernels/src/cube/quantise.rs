//! Rows coded: the residual off the nearest centroid in codes of a few bits, under a scale of its own.
//!
//! Some units share a row, and each keeps its values of the residual in registers: for its root mean square, which gives a
//! first scale; for the sums that tell which scale brings the levels nearest to it; for the codes under the nearest scale
//! that can be said, and the length of what they stand for; for fine codes. Codes go through memory that the units share,
//! where they are packed. The processor does the same (`ResidualCodec::encode`); what differs is how sums round, so that a
//! value on the border between two levels, or of two scales, may fall to either side.

use cubecl::prelude::*;
use latewood_simd::{FINE_MIDDLE, SCALES};

use super::{nearest, rotate};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::{Coder, Codes};

/// Units of a cube.
pub(crate) const UNITS: usize = 64;
/// Levels, scales, fine steps.
const CONSTANTS: usize = 16 + SCALES + 16;
/// Values of a row that a unit keeps at most.
const KEPT: usize = 16;
/// Values of all rows of a cube.
const VALUES: usize = UNITS * KEPT;

/// Two sums.
type Pair = Vector<f32, Const<2>>;

/// How a cube's units share its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Share {
    /// Values of a row.
    dim: usize,
    /// Units of a row, a power of 2.
    units: usize,
    /// Values of a unit; the last of some units are none.
    kept: usize,
}

impl Share {
    /// Of rows of up to `UNITS * KEPT` values.
    pub(super) fn new(dim: usize) -> Self {
        let units = dim.div_ceil(KEPT).next_power_of_two().clamp(8, UNITS);
        Self { dim, units, kept: dim.div_ceil(units) }
    }

    /// Rows of a cube.
    fn rows(self) -> usize {
        UNITS / self.units
    }
}

/// Codes unit rows `[n, d]`, as the embeddings came.
///
/// # Errors
/// When the values are no rows of the coder's dimension; when they, or their codes, are too many for one allocation or
/// launch.
pub fn encode<R: Runtime>(client: &Client<R>, coder: &Coder, rows: &Buffer<f32>) -> Result<Codes, GpuError> {
    let rotated = rotate(client, coder, rows)?;
    let nearest = nearest(client, coder.centroids(), &rotated)?;
    let (codec, n) = (coder.codec(), nearest.len());
    let share = Share::new(codec.dim());
    let (words, fine_words) = (codec.words(), coder.fine_words());
    let outlines = client.empty("outlines", n)?;
    let codes = client.empty("codes", n * words)?;
    let fine = client.empty("fine codes", n * fine_words)?;
    if n > 0 {
        quantise_kernel::launch::<R>(
            client.raw(),
            client.cubes(n.div_ceil(share.rows()))?,
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
            n,
            share,
            codec.bits() as usize,
            coder.fine(),
        );
    }
    Ok(Codes { dim: coder.dim(), bits: codec.bits(), outlines, codes, fine: coder.fine().then_some(fine) })
}

/// Some units a row. `centroids` are bytes, `[c, dim / 4]` words; `constants` are levels, scales and fine steps.
#[cube(launch)]
fn quantise_kernel(
    rows: &Array<f32>,
    nearest: &Array<u32>,
    centroids: &Array<u32>,
    centroid_scales: &Array<f32>,
    constants: &Array<f32>,
    outlines: &mut Array<u32>,
    codes: &mut Array<u32>,
    fine: &mut Array<u32>,
    scale_per_rms: f32,
    n: usize,
    #[comptime] share: Share,
    #[comptime] bits: usize,
    #[comptime] has_fine: bool,
) {
    let mut tables = SharedMemory::<f32>::new(CONSTANTS);
    let mut borders = SharedMemory::<f32>::new(16usize);
    let mut sums = SharedMemory::<Pair>::new(UNITS);
    let mut packed = SharedMemory::<u32>::new(VALUES);
    let mut i = UNIT_POS as usize;
    while i < CONSTANTS {
        tables[i] = constants[i];
        i += UNITS;
    }
    sync_cube();
    if UNIT_POS < 15 {
        // Where one level becomes nearer than the next.
        borders[UNIT_POS as usize] = (tables[UNIT_POS as usize] + tables[UNIT_POS as usize + 1]) * 0.5;
    }
    sync_cube();

    let slot = UNIT_POS as usize / share.units;
    let own = UNIT_POS as usize % share.units;
    let wanted_row = CUBE_POS * comptime!(share.rows()) + slot;
    // Units without a row do as others do, and write nothing: all must meet where they wait.
    let row = min(wanted_row, n - 1);
    let centroid = nearest[row];
    let mut residual = Array::<f32>::new(share.kept);
    let mut center = Array::<f32>::new(share.kept);
    let mut squares = Pair::new(0.0);
    #[unroll]
    for i in 0..share.kept {
        let k = own + comptime!(i * share.units);
        let byte = (centroids[(centroid as usize * share.dim + k) / 4] >> ((k % 4) * 8) as u32) & 255;
        let value = (f32::cast_from(byte) - 64.0) * centroid_scales[centroid as usize];
        let there = is_there(k, i, share);
        center[i] = select(there, value, 0.0);
        residual[i] = select(there, rows[row * share.dim + k] - value, 0.0);
        squares[0] += residual[i] * residual[i];
        squares[1] += center[i] * center[i];
    }
    squares = sum_of_row(squares, &mut sums, slot, share);

    let guess = (squares[0] * comptime!(1.0 / share.dim as f32)).sqrt() * scale_per_rms;
    let wanted = wanted_scale(&residual, &tables, &borders, &mut sums, slot, own, guess, share, bits);
    let number = nearest_scale(&tables, &mut sums, wanted, slot, own, share);
    let scale = tables[16 + number];
    let inverse = inverse(scale);
    let mut levels = Pair::new(0.0);
    #[unroll]
    for i in 0..share.kept {
        let k = own + comptime!(i * share.units);
        let code = nearest_code(residual[i] * inverse, &borders, bits);
        if is_there(k, i, share) {
            let level = tables[code];
            levels[0] += level * level;
            levels[1] += level * center[i];
            packed[slot * comptime!(share.units * share.kept) + k] = code as u32;
        }
    }
    // This waits for the codes, too.
    levels = sum_of_row(levels, &mut sums, slot, share);
    pack(&packed, codes, row, wanted_row < n, slot, own, share, bits);
    if own == 0 && wanted_row < n {
        let square = squares[1] + 2.0 * scale * levels[1] + scale * scale * levels[0];
        outlines[row] = centroid | (number as u32) << 26 | norm_steps(square) << 16;
    }
    if has_fine {
        sync_cube();
        #[unroll]
        for i in 0..share.kept {
            let k = own + comptime!(i * share.units);
            if is_there(k, i, share) {
                // What its code leaves of the residual, in even steps.
                let x = residual[i] * inverse;
                let code = nearest_code(x, &borders, bits);
                let left = (x - tables[code]) / tables[16 + SCALES + code] + FINE_MIDDLE;
                let step = u32::cast_from(clamp(left, 0.0, 15.0) + 0.5);
                packed[slot * comptime!(share.units * share.kept) + k] = step;
            }
        }
        sync_cube();
        pack(&packed, fine, row, wanted_row < n, slot, own, share, 4usize);
    }
}

/// Whether dimension `k`, the `i`-th of its unit, is one of the row's.
#[cube]
fn is_there(k: usize, #[comptime] i: usize, #[comptime] share: Share) -> bool {
    comptime!((i + 1) * share.units <= share.dim) || k < share.dim
}

/// The sums over the units of a row.
#[cube]
fn sum_of_row(value: Pair, sums: &mut SharedMemory<Pair>, slot: usize, #[comptime] share: Share) -> Pair {
    sums[UNIT_POS as usize] = value;
    sync_cube();
    let mut sum = Pair::new(0.0);
    #[unroll]
    for i in 0..share.units {
        sum += sums[slot * share.units + i];
    }
    // The next values go where these are.
    sync_cube();
    sum
}

/// The code whose level is nearest to `x`: how many borders are below it, which ascend.
#[cube]
fn nearest_code(x: f32, borders: &SharedMemory<f32>, #[comptime] bits: usize) -> usize {
    let mut code = 0usize;
    #[unroll]
    for i in 0..bits {
        let step = comptime!(1usize << (bits - 1 - i));
        code = select(x > borders[code + comptime!(step - 1)], code + step, code);
    }
    code
}

/// The scale that brings the levels of a row's codes under the scale `guess` nearest to its residual, `<r, l> / <l, l>`.
#[cube]
fn wanted_scale(
    residual: &Array<f32>,
    tables: &SharedMemory<f32>,
    borders: &SharedMemory<f32>,
    sums: &mut SharedMemory<Pair>,
    slot: usize,
    own: usize,
    guess: f32,
    #[comptime] share: Share,
    #[comptime] bits: usize,
) -> f32 {
    let inverse = inverse(guess);
    let mut products = Pair::new(0.0);
    #[unroll]
    for i in 0..share.kept {
        let level = tables[nearest_code(residual[i] * inverse, borders, bits)];
        let level = select(is_there(own + comptime!(i * share.units), i, share), level, 0.0);
        products[0] += level * residual[i];
        products[1] += level * level;
    }
    products = sum_of_row(products, sums, slot, share);
    select(products[1] > 0.0, products[0] / products[1], 0.0)
}

/// The number of the scale nearest to `wanted`, as ratios go. Scales ascend, so that it is the last that is near enough.
#[cube]
fn nearest_scale(
    tables: &SharedMemory<f32>,
    sums: &mut SharedMemory<Pair>,
    wanted: f32,
    slot: usize,
    own: usize,
    #[comptime] share: Share,
) -> usize {
    let mut number = 0usize;
    #[unroll]
    for i in 0..comptime!(SCALES / share.units) {
        let at = own + comptime!(i * share.units);
        let (below, scale) = (tables[15 + at], tables[16 + at]);
        number = select(at > 0 && wanted > below && wanted * wanted >= below * scale, at, number);
    }
    let mut pair = Pair::new(0.0);
    pair[0] = f32::cast_from(number as u32);
    sums[UNIT_POS as usize] = pair;
    sync_cube();
    let mut last = 0.0f32;
    #[unroll]
    for i in 0..share.units {
        last = max(last, sums[slot * share.units + i][0]);
    }
    sync_cube();
    u32::cast_from(last) as usize
}

/// Packs a row's codes of `bits` in planes: the codes of the dimensions `j`, `m + j`, `2 m + j`, .. are byte `j` of `m`.
#[cube]
fn pack(
    codes: &SharedMemory<u32>,
    out: &mut Array<u32>,
    row: usize,
    writes: bool,
    slot: usize,
    own: usize,
    #[comptime] share: Share,
    #[comptime] bits: usize,
) {
    let plane = comptime!(share.dim * bits / 8);
    let words = comptime!(plane.div_ceil(4));
    let from = slot * comptime!(share.units * share.kept);
    let mut at = own;
    while at < words {
        let mut word = 0u32;
        #[unroll]
        for byte in 0..4usize {
            let j = at * 4 + byte;
            // The last word may be cut short.
            if comptime!(plane.is_multiple_of(4)) || j < plane {
                #[unroll]
                for p in 0..comptime!(8 / bits) {
                    word |= codes[from + comptime!(p * plane) + j] << comptime!((byte * 8 + p * bits) as u32);
                }
            }
        }
        if writes {
            out[row * words + at] = word;
        }
        at += share.units;
    }
}

#[cube]
fn inverse(scale: f32) -> f32 {
    let mut inverse = 0.0f32;
    if scale > 0.0 {
        inverse = 1.0 / scale;
    }
    inverse
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
