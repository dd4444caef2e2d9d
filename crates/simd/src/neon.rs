//! NEON twins for 64-bit Arm: 8 query rows in two registers of 4 lanes, several tokens a tile.
//!
//! Byte dot products do without the `dotprod` extension, whose intrinsics are not stable in Rust yet. Products of a
//! level and a query value are small enough that four of them fit 16 bits: they are added up there, and then in pairs
//! into 32 bits.
//!
//! The callers ([`crate::Kernels`]) have checked all sizes; the loops below rely on them.

use std::arch::aarch64::*;

use crate::estimate::Estimates;
use crate::query::{LANES, QueryF32, QueryI8, QueryI16};
use crate::residual::{LEVEL_OFFSET, ResidualTokens, code_bytes, scale_number, unpack_factors};
use crate::scalar::nearest_by_dots;
use crate::scratch::Scratch;

/// Lanes of a register, for values of 32 bits.
const WIDTH: usize = 4;
/// Registers that the lanes of a tile take.
const REGISTERS: usize = LANES / WIDTH;

/// Rows of an f32 tile: 8 x 2 accumulators, 8 registers of document values and 2 of the query, of 32 registers.
const F32_ROWS: usize = 8;
/// Rows of the f32 tiles for what is left: enough to hide most of the latency of a multiplication.
const FEW_F32_ROWS: usize = 4;

/// Tokens of an integer tile: 2 x 4 accumulators and as many sums of products, 8 query registers, 2 to broadcast. Loads
/// are few as it is, and with a third token the compiler spills registers.
const I8_ROWS: usize = 2;
/// Groups of 4 dimensions whose products are added up in 16 bits: `4 * 127 * 64 < 2^15`, 64 being the furthest that a
/// byte up to 127 lies from [`LEVEL_OFFSET`].
const GROUPS: usize = 4;
/// Dimensions of that many groups: the bytes of a register.
const BLOCK: usize = 4 * GROUPS;

type Floats<const N: usize = REGISTERS> = [float32x4_t; N];
type Ints<const N: usize = REGISTERS> = [int32x4_t; N];

/// Calls `$body` for blocks that cover `0..$n`: `$Size` of it from `$at`, the largest of `$size` (descending) that fits.
macro_rules! for_blocks {
    ($n:expr, [$($size:expr),*], |$at:ident, $Size:ident| $body:block) => {
        let mut $at = 0;
        $(while $n - $at >= $size {
            const $Size: usize = $size;
            $body
            $at += $size;
        })*
    };
}

/// Dot products of `R` rows (from `row`, `dim` values each) with the 8 lanes from `lane`.
#[inline]
#[target_feature(enable = "neon")]
fn tile<const R: usize>(rows: &[f32], row: usize, query: &QueryF32, lane: usize) -> [Floats; R] {
    let (dim, lanes) = (query.dim(), query.lanes());
    debug_assert!((row + R) * dim <= rows.len() && lane + LANES <= lanes);
    let quads = dim - dim % 4;
    let mut sums = [[vdupq_n_f32(0.0); REGISTERS]; R];
    // SAFETY: rows `row..row + R` are inside `rows`, and four values of one are read up to `quads <= dim` only; `values`
    // is `[dim, lanes]` and `lane + 8 <= lanes`.
    unsafe {
        let x = rows.as_ptr().add(row * dim);
        let q = query.values().as_ptr().add(lane);
        for d in (0..quads).step_by(4) {
            let x: [float32x4_t; R] = std::array::from_fn(|r| vld1q_f32(x.add(r * dim + d)));
            add_products::<R, 0>(&mut sums, &x, read(q.add(d * lanes)));
            add_products::<R, 1>(&mut sums, &x, read(q.add((d + 1) * lanes)));
            add_products::<R, 2>(&mut sums, &x, read(q.add((d + 2) * lanes)));
            add_products::<R, 3>(&mut sums, &x, read(q.add((d + 3) * lanes)));
        }
        for d in quads..dim {
            let x: [float32x4_t; R] = std::array::from_fn(|r| vdupq_n_f32(*x.add(r * dim + d)));
            add_products::<R, 0>(&mut sums, &x, read(q.add(d * lanes)));
        }
    }
    sums
}

/// Adds value `D` of each row's register, times the query's lanes, to the row's sums.
#[inline]
#[target_feature(enable = "neon")]
fn add_products<const R: usize, const D: i32>(sums: &mut [Floats; R], x: &[float32x4_t; R], q: Floats) {
    for (sums, &x) in sums.iter_mut().zip(x) {
        for (sum, q) in sums.iter_mut().zip(q) {
            *sum = vfmaq_laneq_f32::<D>(*sum, q, x);
        }
    }
}

#[target_feature(enable = "neon")]
pub(crate) fn dots(rows: &[f32], query: &QueryF32, out: &mut [f32]) {
    let (n, lanes) = (rows.len() / query.dim(), query.lanes());
    for lane in (0..lanes).step_by(LANES) {
        for_blocks!(n, [F32_ROWS, FEW_F32_ROWS, 1], |row, R| {
            for (r, sum) in tile::<R>(rows, row, query, lane).into_iter().enumerate() {
                store(&mut out[(row + r) * lanes + lane..], sum);
            }
        });
    }
}

#[target_feature(enable = "neon")]
pub(crate) fn max_dots(rows: &[f32], query: &QueryF32, max: &mut [f32]) {
    let n = rows.len() / query.dim();
    for lane in (0..query.lanes()).step_by(LANES) {
        let mut best = [vdupq_n_f32(f32::NEG_INFINITY); REGISTERS];
        for_blocks!(n, [F32_ROWS, FEW_F32_ROWS, 1], |row, R| {
            for sum in tile::<R>(rows, row, query, lane) {
                best = larger(best, sum);
            }
        });
        store(&mut max[lane..], best);
    }
}

#[target_feature(enable = "neon")]
pub(crate) fn nearest(rows: &[f32], first: u32, query: &QueryF32, best: &mut [u32], best_dot: &mut [f32]) {
    let n = rows.len() / query.dim();
    for lane in (0..query.lanes()).step_by(LANES) {
        let (best, best_dot) = (&mut best[lane..][..LANES], &mut best_dot[lane..][..LANES]);
        let mut dots = load::<REGISTERS>(best_dot);
        let mut ids = load_ids(best);
        for_blocks!(n, [F32_ROWS, FEW_F32_ROWS, 1], |row, R| {
            for (r, sum) in tile::<R>(rows, row, query, lane).into_iter().enumerate() {
                let id = vdupq_n_u32((first as usize + row + r) as u32);
                for i in 0..REGISTERS {
                    let wins = vcgtq_f32(sum[i], dots[i]);
                    dots[i] = vbslq_f32(wins, sum[i], dots[i]);
                    ids[i] = vbslq_u32(wins, id, ids[i]);
                }
            }
        });
        store(best_dot, dots);
        store_ids(best, ids);
    }
}

/// Takes up to 32 lanes at a time, so that a row's cache lines are not fetched again for the next lanes.
#[target_feature(enable = "neon")]
pub(crate) fn max_estimates(ids: &[u16], factors: &[u16], estimates: &Estimates, table: &[f32], max: &mut [f32]) {
    let lanes = max.len();
    for_blocks!(lanes, [4 * LANES, 2 * LANES, LANES], |lane, L| {
        let mut best = [vdupq_n_f32(f32::NEG_INFINITY); L / WIDTH];
        for (&id, &factors) in ids.iter().zip(factors) {
            let (at, scale) = (usize::from(id) * lanes + lane, scale_number(factors));
            debug_assert!(at + L <= table.len());
            // SAFETY: the caller has checked every id against the table's rows of `lanes` values, and that there is a row
            // of bonuses for each scale.
            let (mut row, bonus): (Floats<{ L / WIDTH }>, Floats<{ L / WIDTH }>) =
                unsafe { (read(table.as_ptr().add(at)), read(estimates.bonuses.as_ptr().add(scale * lanes + lane))) };
            for (x, bonus) in row.iter_mut().zip(bonus) {
                // Without fusing, as the scalar twin.
                *x = vaddq_f32(vmulq_n_f32(*x, estimates.weights[scale]), bonus);
            }
            best = larger(best, row);
        }
        store(&mut max[lane..], best);
    });
}

pub(crate) fn byte_nearest(rows: &[u8], scales: &[f32], query: &QueryI8, best: &mut [f32], ids: &mut [u32]) {
    // SAFETY: NEON is there, as these kernels are; sizes are the caller's, cut in whole rows.
    let dots =
        |rows: &[u8], scales: &[f32], query: &QueryI8, out: &mut [f32]| unsafe { byte_dots(rows, scales, query, out) };
    nearest_by_dots(dots, rows, scales, query, best, ids);
}

#[target_feature(enable = "neon")]
pub(crate) fn byte_dots(rows: &[u8], scales: &[f32], query: &QueryI8, out: &mut [f32]) {
    const OFFSET: i8 = LEVEL_OFFSET as i8;
    let (dim, lanes) = (query.dim(), query.lanes());
    for lane in (0..lanes).step_by(LANES) {
        for_blocks!(scales.len(), [I8_ROWS, 1], |row, R| {
            let sums = integer_tile::<R, OFFSET>(&rows[row * dim..], query, lane);
            for (r, sum) in sums.into_iter().enumerate() {
                store(&mut out[(row + r) * lanes + lane..], scaled(sum, scales[row + r]));
            }
        });
    }
}

#[target_feature(enable = "neon")]
pub(crate) fn max_residual_dots(
    tokens: &ResidualTokens<'_>,
    query: &QueryI8,
    table: &[f32],
    scratch: &mut Scratch,
    max: &mut [f32],
) {
    let dim = tokens.dim;
    let levels = level_table(tokens);
    // The levels of one tile of tokens, `[I8_ROWS, dim]`: stays in L1. Expanding writes whole registers, so a row may
    // spill into the next, which is expanded after it; the last has room to spare.
    let expanded = scratch.bytes(I8_ROWS * dim);
    max.fill(f32::NEG_INFINITY);
    for_blocks!(tokens.len(), [I8_ROWS, 1], |t, R| {
        for r in 0..R {
            expand(tokens, t + r, levels, &mut expanded[r * dim..]);
        }
        for lane in (0..query.lanes()).step_by(LANES) {
            score_tile::<R>(tokens, t, expanded, query, lane, table, &mut max[lane..]);
        }
    });
}

#[target_feature(enable = "neon")]
pub(crate) fn max_word_dots(rows: &[i16], query: &QueryI16, max: &mut [i32]) {
    let dim = query.dim();
    max.fill(i32::MIN);
    for lane in (0..query.lanes()).step_by(LANES) {
        for_blocks!(rows.len() / dim, [I8_ROWS, 1], |row, R| {
            word_tile::<R>(&rows[row * dim..], query, lane, &mut max[lane..]);
        });
    }
}

/// Raises `max` to the dot products of the first `R` rows with the 8 lanes from `lane`.
#[inline]
#[target_feature(enable = "neon")]
fn word_tile<const R: usize>(rows: &[i16], query: &QueryI16, lane: usize, max: &mut [i32]) {
    let (dim, lanes) = (query.dim(), query.lanes());
    assert!(R * dim <= rows.len() && lane + LANES <= lanes && max.len() >= LANES);
    // A lane's two products stay side by side until the end.
    let mut sums = [[vdupq_n_s32(0); 2 * REGISTERS]; R];
    // SAFETY: `rows` holds `R` rows of `dim` values, `dim` being even; `values` is `[dim / 2, lanes, 2]`; `max` holds 8.
    unsafe {
        let x = rows.as_ptr();
        let q = query.values().as_ptr().add(lane * 2);
        for d in 0..dim / 2 {
            let q: [int16x8_t; REGISTERS] = std::array::from_fn(|i| vld1q_s16(q.add(d * lanes * 2 + i * 8)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let pair = vdupq_n_s32(x.add(r * dim + d * 2).cast::<i32>().read_unaligned());
                let x = vreinterpretq_s16_s32(pair);
                for (i, q) in q.iter().enumerate() {
                    sums[2 * i] = vmlal_s16(sums[2 * i], vget_low_s16(x), vget_low_s16(*q));
                    sums[2 * i + 1] = vmlal_high_s16(sums[2 * i + 1], x, *q);
                }
            }
        }
        for i in 0..REGISTERS {
            let max = max.as_mut_ptr().add(i * WIDTH);
            let dots = sums.iter().map(|sums| vpaddq_s32(sums[2 * i], sums[2 * i + 1]));
            vst1q_s32(max, dots.fold(vld1q_s32(max), |best, dot| vmaxq_s32(best, dot)));
        }
    }
}

/// Scores `R` expanded tokens, from token `first`, against the 8 lanes from `lane`.
#[inline]
#[target_feature(enable = "neon")]
fn score_tile<const R: usize>(
    tokens: &ResidualTokens<'_>,
    first: usize,
    expanded: &[u8],
    query: &QueryI8,
    lane: usize,
    table: &[f32],
    max: &mut [f32],
) {
    let sums = integer_tile::<R, 0>(expanded, query, lane);
    let mut best = load::<REGISTERS>(max);
    for (r, sum) in sums.into_iter().enumerate() {
        let t = first + r;
        let (scale, inverse_norm) = unpack_factors(tokens.factors[t], tokens.scales);
        let residual = scaled(sum, scale * inverse_norm);
        let mut dot = load::<REGISTERS>(&table[usize::from(tokens.centroids[t]) * query.lanes() + lane..]);
        for (dot, residual) in dot.iter_mut().zip(residual) {
            // The order of the scalar twin, without fusing, so that both give the same bits.
            *dot = vaddq_f32(vmulq_n_f32(*dot, inverse_norm), residual);
        }
        best = larger(best, dot);
    }
    store(max, best);
}

/// Integer dot products of `R` rows of bytes, less `OFFSET` each, with the 8 lanes from `lane`.
#[inline]
#[target_feature(enable = "neon")]
fn integer_tile<const R: usize, const OFFSET: i8>(rows: &[u8], query: &QueryI8, lane: usize) -> [Ints; R] {
    let (dim, lanes) = (query.dim(), query.lanes());
    debug_assert!(R * dim <= rows.len() && lane + LANES <= lanes);
    let offset = vdupq_n_s8(OFFSET);
    let blocks = dim - dim % BLOCK;
    let mut sums = [[vdupq_n_s32(0); 2 * REGISTERS]; R];
    // SAFETY: `rows` holds `R` rows of `dim` bytes, `dim` a multiple of 4, of which 16 are read up to `blocks <= dim` and
    // 4 from there on; `values` is `[dim / 4, lanes, 4]`, and `lane + 8 <= lanes`.
    unsafe {
        let x = rows.as_ptr().cast::<i8>();
        let q = query.values().as_ptr().add(lane * 4);
        for d in (0..blocks).step_by(BLOCK) {
            let q: [_; GROUPS] = std::array::from_fn(|g| read_bytes(q.add((d + 4 * g) * lanes)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = vsubq_s8(vld1q_s8(x.add(r * dim + d)), offset);
                add_byte_products(sums, broadcast_groups(x), &q);
            }
        }
        for d in (blocks..dim).step_by(4) {
            let q = [read_bytes(q.add(d * lanes))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = vdupq_n_s32(x.add(r * dim + d).cast::<i32>().read_unaligned());
                add_byte_products(sums, [vsubq_s8(vreinterpretq_s8_s32(x), offset)], &q);
            }
        }
    }
    // A lane's products ended up in two neighbouring sums.
    sums.map(|sums| std::array::from_fn(|i| vpaddq_s32(sums[2 * i], sums[2 * i + 1])))
}

/// Adds products of up to [`GROUPS`] groups of 4 dimensions, `x` being the same in all lanes, to two sums a lane.
#[inline]
#[target_feature(enable = "neon")]
fn add_byte_products<const G: usize>(
    sums: &mut Ints<{ 2 * REGISTERS }>,
    x: [int8x16_t; G],
    q: &[[int8x16_t; REGISTERS]; G],
) {
    const { assert!(G <= GROUPS, "products of more groups do not fit 16 bits") };
    for i in 0..REGISTERS {
        let mut low = vmull_s8(vget_low_s8(x[0]), vget_low_s8(q[0][i]));
        let mut high = vmull_high_s8(x[0], q[0][i]);
        for g in 1..G {
            low = vmlal_s8(low, vget_low_s8(x[g]), vget_low_s8(q[g][i]));
            high = vmlal_high_s8(high, x[g], q[g][i]);
        }
        sums[2 * i] = vpadalq_s16(sums[2 * i], low);
        sums[2 * i + 1] = vpadalq_s16(sums[2 * i + 1], high);
    }
}

/// Each group of 4 bytes, in all lanes.
#[inline]
#[target_feature(enable = "neon")]
fn broadcast_groups(x: int8x16_t) -> [int8x16_t; GROUPS] {
    let x = vreinterpretq_s32_s8(x);
    [
        vreinterpretq_s8_s32(vdupq_laneq_s32::<0>(x)),
        vreinterpretq_s8_s32(vdupq_laneq_s32::<1>(x)),
        vreinterpretq_s8_s32(vdupq_laneq_s32::<2>(x)),
        vreinterpretq_s8_s32(vdupq_laneq_s32::<3>(x)),
    ]
}

#[inline]
#[target_feature(enable = "neon")]
fn scaled(sums: Ints, scale: f32) -> Floats {
    sums.map(|sum| vmulq_n_f32(vcvtq_f32_s32(sum), scale))
}

/// The 16 levels, signed, as bytes to look up.
#[inline]
#[target_feature(enable = "neon")]
fn level_table(tokens: &ResidualTokens<'_>) -> uint8x16_t {
    let levels = tokens.unsigned_levels();
    // SAFETY: 16 bytes are read from an array of 16.
    vsubq_u8(unsafe { vld1q_u8(levels.as_ptr()) }, vdupq_n_u8(LEVEL_OFFSET as u8))
}

/// Expands token `t` into `out[dim]`, plane by plane; may write up to 15 bytes past the token's end.
#[inline]
#[target_feature(enable = "neon")]
fn expand(tokens: &ResidualTokens<'_>, t: usize, levels: uint8x16_t, out: &mut [u8]) {
    let plane = code_bytes(tokens.dim, tokens.bits);
    let packed = &tokens.codes[t * plane..][..plane];
    let mask = vdupq_n_u8(((1u32 << tokens.bits) - 1) as u8);
    assert!(out.len() >= tokens.dim + 15);
    for p in 0..8 / tokens.bits as usize {
        // A shift by a negative number is one to the right.
        let shift = vdupq_n_s8(-((p as u32 * tokens.bits) as i8));
        for j in (0..plane).step_by(16) {
            let codes = vandq_u8(vshlq_u8(load_bytes(&packed[j..]), shift), mask);
            let values = vqtbl1q_u8(levels, codes);
            // SAFETY: `p * plane + j < dim`, and `out` has 15 bytes behind its `dim`.
            unsafe { vst1q_u8(out.as_mut_ptr().add(p * plane + j), values) };
        }
    }
}

/// The first 16 bytes, zero where there are fewer.
#[inline]
#[target_feature(enable = "neon")]
fn load_bytes(bytes: &[u8]) -> uint8x16_t {
    if bytes.len() >= 16 {
        // SAFETY: 16 bytes are there.
        return unsafe { vld1q_u8(bytes.as_ptr()) };
    }
    let mut padded = [0u8; 16];
    padded[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: 16 bytes are read from an array of 16.
    unsafe { vld1q_u8(padded.as_ptr()) }
}

/// Lane by lane the larger; as [`f32::max`] the number where the other is none.
#[inline]
#[target_feature(enable = "neon")]
fn larger<const N: usize>(a: Floats<N>, b: Floats<N>) -> Floats<N> {
    std::array::from_fn(|i| vmaxnmq_f32(a[i], b[i]))
}

/// `4 N` values from `x`.
///
/// # Safety
/// They must be there.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn read<const N: usize>(x: *const f32) -> Floats<N> {
    // SAFETY: the caller vouches for the values.
    std::array::from_fn(|i| unsafe { vld1q_f32(x.add(i * WIDTH)) })
}

/// Groups of 4 bytes for 8 lanes from `x`.
///
/// # Safety
/// All 32 bytes must be there.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn read_bytes(x: *const i8) -> [int8x16_t; REGISTERS] {
    // SAFETY: the caller vouches for the bytes.
    std::array::from_fn(|i| unsafe { vld1q_s8(x.add(i * 16)) })
}

#[inline]
#[target_feature(enable = "neon")]
fn load<const N: usize>(x: &[f32]) -> Floats<N> {
    assert!(x.len() >= N * WIDTH);
    // SAFETY: the values are there.
    unsafe { read(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store<const N: usize>(x: &mut [f32], values: Floats<N>) {
    assert!(x.len() >= N * WIDTH);
    for (i, value) in values.into_iter().enumerate() {
        // SAFETY: there is room for the values.
        unsafe { vst1q_f32(x.as_mut_ptr().add(i * WIDTH), value) };
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_ids(x: &[u32]) -> [uint32x4_t; REGISTERS] {
    assert!(x.len() >= LANES);
    // SAFETY: the values are there.
    std::array::from_fn(|i| unsafe { vld1q_u32(x.as_ptr().add(i * WIDTH)) })
}

#[inline]
#[target_feature(enable = "neon")]
fn store_ids(x: &mut [u32], values: [uint32x4_t; REGISTERS]) {
    assert!(x.len() >= LANES);
    for (i, value) in values.into_iter().enumerate() {
        // SAFETY: there is room for the values.
        unsafe { vst1q_u32(x.as_mut_ptr().add(i * WIDTH), value) };
    }
}
