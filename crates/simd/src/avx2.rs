//! AVX2 twins: 16 query rows at a time in two registers of 8 lanes, several tokens a tile.
//!
//! The callers ([`crate::Kernels`]) have checked all sizes; the loops below rely on them.

use std::arch::x86_64::*;

use crate::query::{LANES, QueryF32, QueryI8};
use crate::residual::{LEVEL_OFFSET, ResidualTokens, code_bytes};

/// Rows of an f32 tile: 6 x 2 accumulators, 2 query registers, 1 broadcast, of 16 registers.
const F32_ROWS: usize = 6;

/// Tokens of an integer tile: 4 x 2 accumulators, 2 query registers, and 3 to multiply with.
const I8_ROWS: usize = 4;

/// Dot products of `R` rows (from `row`, `dim` values each) with the 16 lanes from `lane`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const R: usize>(rows: &[f32], row: usize, query: &QueryF32, lane: usize) -> [[__m256; 2]; R] {
    let (dim, lanes) = (query.dim(), query.lanes());
    debug_assert!((row + R) * dim <= rows.len() && lane + LANES <= lanes);
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    // SAFETY: rows `row..row + R` are inside `rows`; `values` is `[dim, lanes]` and `lane + 16 <= lanes`.
    unsafe {
        let x = rows.as_ptr().add(row * dim);
        let q = query.values().as_ptr().add(lane);
        for d in 0..dim {
            let q0 = _mm256_loadu_ps(q.add(d * lanes));
            let q1 = _mm256_loadu_ps(q.add(d * lanes + 8));
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*x.add(r * dim + d));
                sum[0] = _mm256_fmadd_ps(x, q0, sum[0]);
                sum[1] = _mm256_fmadd_ps(x, q1, sum[1]);
            }
        }
    }
    sums
}

/// Calls `$body` with tiles covering `$n` rows: `$row` is the tile's first row, `$tile` its sums, one entry a row.
macro_rules! for_tiles {
    ($rows:expr, $n:expr, $query:expr, $lane:expr, |$row:ident, $tile:ident| $body:block) => {
        let mut $row = 0;
        while $row + F32_ROWS <= $n {
            let $tile = tile::<F32_ROWS>($rows, $row, $query, $lane);
            $body
            $row += F32_ROWS;
        }
        while $row < $n {
            let $tile = tile::<1>($rows, $row, $query, $lane);
            $body
            $row += 1;
        }
    };
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dots(rows: &[f32], query: &QueryF32, out: &mut [f32]) {
    let (n, lanes) = (rows.len() / query.dim(), query.lanes());
    for lane in (0..lanes).step_by(LANES) {
        for_tiles!(rows, n, query, lane, |row, sums| {
            for (r, sum) in sums.iter().enumerate() {
                store(&mut out[(row + r) * lanes + lane..][..LANES], *sum);
            }
        });
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn max_dots(rows: &[f32], query: &QueryF32, max: &mut [f32]) {
    let n = rows.len() / query.dim();
    for lane in (0..query.lanes()).step_by(LANES) {
        let mut best = [_mm256_set1_ps(f32::NEG_INFINITY); 2];
        for_tiles!(rows, n, query, lane, |row, sums| {
            for sum in &sums {
                best = [_mm256_max_ps(best[0], sum[0]), _mm256_max_ps(best[1], sum[1])];
            }
        });
        store(&mut max[lane..][..LANES], best);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn nearest(rows: &[f32], first: u32, query: &QueryF32, best: &mut [u32], best_dot: &mut [f32]) {
    let n = rows.len() / query.dim();
    for lane in (0..query.lanes()).step_by(LANES) {
        let mut dots = load(&best_dot[lane..][..LANES]);
        let mut ids = load_ids(&best[lane..][..LANES]);
        for_tiles!(rows, n, query, lane, |row, sums| {
            for (r, sum) in sums.iter().enumerate() {
                let id = _mm256_set1_epi32((first as usize + row + r) as i32);
                for half in 0..2 {
                    let wins = _mm256_cmp_ps::<_CMP_GT_OQ>(sum[half], dots[half]);
                    dots[half] = _mm256_blendv_ps(dots[half], sum[half], wins);
                    ids[half] = _mm256_blendv_epi8(ids[half], id, _mm256_castps_si256(wins));
                }
            }
        });
        store(&mut best_dot[lane..][..LANES], dots);
        store_ids(&mut best[lane..][..LANES], ids);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn max_rows(ids: &[u32], table: &[f32], lanes: usize, max: &mut [f32]) {
    for lane in (0..lanes).step_by(LANES) {
        let mut best = [_mm256_set1_ps(f32::NEG_INFINITY); 2];
        for &id in ids {
            let at = id as usize * lanes + lane;
            debug_assert!(at + LANES <= table.len());
            // SAFETY: the caller has checked every id against the table's rows of `lanes` values.
            let row = unsafe {
                let p = table.as_ptr().add(at);
                [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))]
            };
            best = [_mm256_max_ps(best[0], row[0]), _mm256_max_ps(best[1], row[1])];
        }
        store(&mut max[lane..][..LANES], best);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn max_residual_dots(tokens: &ResidualTokens<'_>, query: &QueryI8, table: &[f32], max: &mut [f32]) {
    let n = tokens.len();
    let dim = tokens.dim;
    let levels = level_table(tokens);
    // The levels of one tile of tokens, expanded to bytes `[I8_ROWS, dim]`: stays in L1. Expanding writes whole
    // registers, so a row may spill into the next, which is expanded after it; the last has room to spare.
    let mut expanded = vec![0u8; I8_ROWS * dim + 32];
    max.fill(f32::NEG_INFINITY);
    let mut t = 0;
    while t < n {
        let count = I8_ROWS.min(n - t);
        for r in 0..count {
            expand(tokens, t + r, levels, &mut expanded[r * dim..]);
        }
        for lane in (0..query.lanes()).step_by(LANES) {
            let max = &mut max[lane..][..LANES];
            if count == I8_ROWS {
                score_tile::<I8_ROWS>(tokens, t, &expanded, query, lane, table, max);
            } else {
                for r in 0..count {
                    score_tile::<1>(tokens, t + r, &expanded[r * dim..], query, lane, table, max);
                }
            }
        }
        t += count;
    }
}

/// Scores `R` expanded tokens, from token `first`, against the 16 lanes from `lane`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn score_tile<const R: usize>(
    tokens: &ResidualTokens<'_>,
    first: usize,
    expanded: &[u8],
    query: &QueryI8,
    lane: usize,
    table: &[f32],
    max: &mut [f32],
) {
    let lanes = query.lanes();
    let sums = integer_tile::<R>(expanded, tokens.dim, query, lane);
    let row_scales = load(&query.scales()[lane..][..LANES]);
    let mut best = load(max);
    for (r, sum) in sums.iter().enumerate() {
        let t = first + r;
        let scale = _mm256_set1_ps(to_f32(tokens.scales[t]));
        let inverse_norm = _mm256_set1_ps(to_f32(tokens.inverse_norms[t]));
        let row = load(&table[tokens.centroids[t] as usize * lanes + lane..][..LANES]);
        for half in 0..2 {
            // The order of the scalar twin, without fusing, so that both give the same bits.
            let residual = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[half]), _mm256_mul_ps(scale, row_scales[half]));
            let dot = _mm256_mul_ps(_mm256_add_ps(row[half], residual), inverse_norm);
            best[half] = _mm256_max_ps(best[half], dot);
        }
    }
    store(max, best);
}

/// Integer dot products of `R` rows of unsigned levels with the 16 lanes from `lane`, offset removed.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn integer_tile<const R: usize>(expanded: &[u8], dim: usize, query: &QueryI8, lane: usize) -> [[__m256i; 2]; R] {
    let lanes = query.lanes();
    debug_assert!(R * dim <= expanded.len() && lane + LANES <= lanes);
    let ones = _mm256_set1_epi16(1);
    let offset = _mm256_set1_epi32(-LEVEL_OFFSET);
    // SAFETY: `sums` holds `lanes` values and `lane + 16 <= lanes`.
    let start = unsafe {
        let p = query.sums().as_ptr().add(lane);
        [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())]
    };
    let start = start.map(|sum| _mm256_mullo_epi32(sum, offset));
    let mut sums = [start; R];
    // SAFETY: `expanded` holds `R` rows of `dim` bytes, `dim` a multiple of 4; `values` is `[dim / 4, lanes, 4]`.
    unsafe {
        let x = expanded.as_ptr();
        let q = query.values().as_ptr().add(lane * 4);
        for d in 0..dim / 4 {
            let q0 = _mm256_loadu_si256(q.add(d * lanes * 4).cast());
            let q1 = _mm256_loadu_si256(q.add(d * lanes * 4 + 32).cast());
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(x.add(r * dim + d * 4).cast::<i32>().read_unaligned());
                sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(_mm256_maddubs_epi16(x, q0), ones));
                sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(_mm256_maddubs_epi16(x, q1), ones));
            }
        }
    }
    sums
}

/// The 16 unsigned levels, twice, for byte shuffles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn level_table(tokens: &ResidualTokens<'_>) -> __m256i {
    let levels = tokens.unsigned_levels();
    // SAFETY: 16 bytes are read from an array of 16.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(levels.as_ptr().cast()) })
}

/// Expands token `t` into `out[dim]`, plane by plane; may write up to 31 bytes past the token's end.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn expand(tokens: &ResidualTokens<'_>, t: usize, levels: __m256i, out: &mut [u8]) {
    let plane = code_bytes(tokens.dim, tokens.bits);
    let packed = &tokens.codes[t * plane..][..plane];
    let mask = _mm256_set1_epi8(((1u32 << tokens.bits) - 1) as i8);
    assert!(out.len() >= tokens.dim + 31);
    for p in 0..8 / tokens.bits as usize {
        let shift = _mm_cvtsi32_si128((p as u32 * tokens.bits) as i32);
        for j in (0..plane).step_by(32) {
            let bytes = load_bytes(&packed[j..]);
            // A 16-bit shift brings bits of the neighbouring byte in; the mask takes them out again.
            let codes = _mm256_and_si256(_mm256_srl_epi16(bytes, shift), mask);
            let values = _mm256_shuffle_epi8(levels, codes);
            // SAFETY: `p * plane + j < dim`, and `out` has 31 bytes behind its `dim`.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().add(p * plane + j).cast(), values) };
        }
    }
}

/// The first 32 bytes, zero where there are fewer.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_bytes(bytes: &[u8]) -> __m256i {
    if bytes.len() >= 32 {
        // SAFETY: 32 bytes are there.
        return unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    }
    let mut padded = [0u8; 32];
    padded[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: 32 bytes are read from an array of 32.
    unsafe { _mm256_loadu_si256(padded.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn to_f32(x: half::f16) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(x.to_bits()))))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(x: &[f32]) -> [__m256; 2] {
    assert!(x.len() >= LANES);
    // SAFETY: 16 values are there.
    unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store(x: &mut [f32], v: [__m256; 2]) {
    assert!(x.len() >= LANES);
    // SAFETY: there is room for 16 values.
    unsafe {
        _mm256_storeu_ps(x.as_mut_ptr(), v[0]);
        _mm256_storeu_ps(x.as_mut_ptr().add(8), v[1]);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_ids(x: &[u32]) -> [__m256i; 2] {
    assert!(x.len() >= LANES);
    // SAFETY: 16 values are there.
    unsafe { [_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().add(8).cast())] }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store_ids(x: &mut [u32], v: [__m256i; 2]) {
    assert!(x.len() >= LANES);
    // SAFETY: there is room for 16 values.
    unsafe {
        _mm256_storeu_si256(x.as_mut_ptr().cast(), v[0]);
        _mm256_storeu_si256(x.as_mut_ptr().add(8).cast(), v[1]);
    }
}
