//! AVX2 twins: query rows in registers of 8 lanes, two registers at a time and one for what is left, several tokens a
//! tile.
//!
//! The callers ([`crate::Kernels`]) have checked all sizes; the loops below rely on them.

use std::arch::x86_64::*;

use crate::decode::{FINE_CODES, FineSteps, combine};
use crate::estimate::Estimates;
use crate::query::{LANES, QueryF32, QueryI8, QueryI16};
use crate::residual::{FINE_BITS, LEVEL_OFFSET, ResidualTokens, code_bytes, scale_number, unpack_factors};
use crate::scratch::Scratch;

/// Rows of an f32 tile: 6 x 2 accumulators, 2 query registers, 1 broadcast, of 16 registers.
const F32_ROWS: usize = 6;

/// Tokens of an integer tile: 4 x 2 accumulators, 2 query registers, and 3 to multiply with.
const I8_ROWS: usize = 4;

/// Calls `$body` for blocks of lanes: `$w` registers from `$lane`, two while there are two.
macro_rules! for_lanes {
    ($lanes:expr, |$lane:ident, $w:ident| $body:block) => {
        let mut $lane = 0;
        while $lane + 2 * LANES <= $lanes {
            const $w: usize = 2;
            $body
            $lane += 2 * LANES;
        }
        if $lane < $lanes {
            const $w: usize = 1;
            $body
        }
    };
}

/// Dot products of `R` rows (from `row`, `dim` values each) with the `W` registers of lanes from `lane`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tile<const R: usize, const W: usize>(rows: &[f32], row: usize, query: &QueryF32, lane: usize) -> [[__m256; W]; R] {
    let (dim, lanes) = (query.dim(), query.lanes());
    debug_assert!((row + R) * dim <= rows.len() && lane + W * LANES <= lanes);
    let mut sums = [[_mm256_setzero_ps(); W]; R];
    // SAFETY: rows `row..row + R` are inside `rows`; `values` is `[dim, lanes]` and `lane + 8 W <= lanes`.
    unsafe {
        let x = rows.as_ptr().add(row * dim);
        let q = query.values().as_ptr().add(lane);
        for d in 0..dim {
            let q: [__m256; W] = std::array::from_fn(|w| _mm256_loadu_ps(q.add(d * lanes + w * LANES)));
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*x.add(r * dim + d));
                for (sum, q) in sum.iter_mut().zip(q) {
                    *sum = _mm256_fmadd_ps(x, q, *sum);
                }
            }
        }
    }
    sums
}

/// Calls `$body` with tiles covering `$n` rows: `$row` is the tile's first row, `$tile` its sums, one entry a row.
macro_rules! for_tiles {
    ($w:ident, $rows:expr, $n:expr, $query:expr, $lane:expr, |$row:ident, $tile:ident| $body:block) => {
        let mut $row = 0;
        while $row + F32_ROWS <= $n {
            let $tile = tile::<F32_ROWS, $w>($rows, $row, $query, $lane);
            $body
            $row += F32_ROWS;
        }
        while $row < $n {
            let $tile = tile::<1, $w>($rows, $row, $query, $lane);
            $body
            $row += 1;
        }
    };
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn dots(rows: &[f32], query: &QueryF32, out: &mut [f32]) {
    let (n, lanes) = (rows.len() / query.dim(), query.lanes());
    for_lanes!(lanes, |lane, W| {
        for_tiles!(W, rows, n, query, lane, |row, sums| {
            for (r, sum) in sums.into_iter().enumerate() {
                store(&mut out[(row + r) * lanes + lane..][..W * LANES], sum);
            }
        });
    });
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn max_dots(rows: &[f32], query: &QueryF32, max: &mut [f32]) {
    let n = rows.len() / query.dim();
    for_lanes!(query.lanes(), |lane, W| {
        let mut best = [_mm256_set1_ps(f32::NEG_INFINITY); W];
        for_tiles!(W, rows, n, query, lane, |row, sums| {
            for sum in &sums {
                best.iter_mut().zip(sum).for_each(|(best, sum)| *best = max_ps(*best, *sum));
            }
        });
        store(&mut max[lane..][..W * LANES], best);
    });
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn nearest(rows: &[f32], first: u32, query: &QueryF32, best: &mut [u32], best_dot: &mut [f32]) {
    let n = rows.len() / query.dim();
    for_lanes!(query.lanes(), |lane, W| {
        let mut dots = load::<W>(&best_dot[lane..][..W * LANES]);
        let mut ids = load_ids::<W>(&best[lane..][..W * LANES]);
        for_tiles!(W, rows, n, query, lane, |row, sums| {
            for (r, sum) in sums.into_iter().enumerate() {
                keep_larger(sum, first as usize + row + r, &mut dots, &mut ids);
            }
        });
        store(&mut best_dot[lane..][..W * LANES], dots);
        store_ids(&mut best[lane..][..W * LANES], ids);
    });
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn max_estimates(ids: &[u16], factors: &[u16], estimates: &Estimates, table: &[f32], max: &mut [f32]) {
    let lanes = max.len();
    for_lanes!(lanes, |lane, W| {
        let mut best = [_mm256_set1_ps(f32::NEG_INFINITY); W];
        for (&id, &factors) in ids.iter().zip(factors) {
            let (at, scale) = (usize::from(id) * lanes + lane, scale_number(factors));
            debug_assert!(at + W * LANES <= table.len());
            let weight = _mm256_set1_ps(estimates.weights[scale]);
            for (w, best) in best.iter_mut().enumerate() {
                // SAFETY: the caller has checked every id against the table's rows of `lanes` values, and that there is
                // a row of bonuses for each scale.
                let (row, bonus) = unsafe {
                    let bonus = estimates.bonuses.as_ptr().add(scale * lanes + lane + w * LANES);
                    (_mm256_loadu_ps(table.as_ptr().add(at + w * LANES)), _mm256_loadu_ps(bonus))
                };
                // Without fusing, as the scalar twin.
                *best = max_ps(*best, _mm256_add_ps(_mm256_mul_ps(row, weight), bonus));
            }
        }
        store(&mut max[lane..][..W * LANES], best);
    });
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn byte_dots(rows: &[u8], scales: &[f32], query: &QueryI8, out: &mut [f32]) {
    let (dim, lanes) = (query.dim(), query.lanes());
    for_lanes!(lanes, |lane, W| {
        let mut row = 0;
        while row + I8_ROWS <= scales.len() {
            let sums = integer_tile::<I8_ROWS, W>(&rows[row * dim..], query, lane);
            for (r, sum) in sums.into_iter().enumerate() {
                let out = &mut out[(row + r) * lanes + lane..][..W * LANES];
                store(out, scaled(sum, scales[row + r]));
            }
            row += I8_ROWS;
        }
        for row in row..scales.len() {
            let [sum] = integer_tile::<1, W>(&rows[row * dim..], query, lane);
            store(&mut out[row * lanes + lane..][..W * LANES], scaled(sum, scales[row]));
        }
    });
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn byte_nearest(rows: &[u8], scales: &[f32], query: &QueryI8, best: &mut [f32], ids: &mut [u32]) {
    let dim = query.dim();
    for_lanes!(query.lanes(), |lane, W| {
        let (best, ids) = (&mut best[lane..][..W * LANES], &mut ids[lane..][..W * LANES]);
        let (mut dots, mut rows_of) = (load::<W>(best), load_ids::<W>(ids));
        let mut row = 0;
        while row + I8_ROWS <= scales.len() {
            let sums = integer_tile::<I8_ROWS, W>(&rows[row * dim..], query, lane);
            for (r, sum) in sums.into_iter().enumerate() {
                keep_larger(scaled(sum, scales[row + r]), row + r, &mut dots, &mut rows_of);
            }
            row += I8_ROWS;
        }
        for row in row..scales.len() {
            let [sum] = integer_tile::<1, W>(&rows[row * dim..], query, lane);
            keep_larger(scaled(sum, scales[row]), row, &mut dots, &mut rows_of);
        }
        store(best, dots);
        store_ids(ids, rows_of);
    });
}

/// Where `new` is larger than `dots`, it and its row take their place.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn keep_larger<const W: usize>(new: [__m256; W], row: usize, dots: &mut [__m256; W], rows: &mut [__m256i; W]) {
    let row = _mm256_set1_epi32(row as i32);
    for w in 0..W {
        let wins = _mm256_cmp_ps::<_CMP_GT_OQ>(new[w], dots[w]);
        dots[w] = _mm256_blendv_ps(dots[w], new[w], wins);
        rows[w] = _mm256_blendv_epi8(rows[w], row, _mm256_castps_si256(wins));
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn scaled<const W: usize>(sums: [__m256i; W], scale: f32) -> [__m256; W] {
    let mut out = [_mm256_set1_ps(scale); W];
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), *out));
    out
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn max_residual_dots(
    tokens: &ResidualTokens<'_>,
    query: &QueryI8,
    table: &[f32],
    scratch: &mut Scratch,
    max: &mut [f32],
) {
    let (n, dim) = (tokens.len(), tokens.dim);
    let levels = byte_table(&tokens.unsigned_levels());
    // The levels of one tile of tokens, `[I8_ROWS, dim]`: stays in L1. Expanding writes whole registers, so a row may
    // spill into the next, which is expanded after it; the last has room to spare.
    let expanded = scratch.bytes(I8_ROWS * dim);
    max.fill(f32::NEG_INFINITY);
    let mut t = 0;
    while t < n {
        let count = I8_ROWS.min(n - t);
        for r in 0..count {
            expand(tokens.token_codes(t + r), (tokens.bits, dim), levels, &mut expanded[r * dim..]);
        }
        for_lanes!(query.lanes(), |lane, W| {
            let max = &mut max[lane..][..W * LANES];
            if count == I8_ROWS {
                score_tile::<I8_ROWS, W>(tokens, t, expanded, query, lane, table, max);
            } else {
                for r in 0..count {
                    score_tile::<1, W>(tokens, t + r, &expanded[r * dim..], query, lane, table, max);
                }
            }
        });
        t += count;
    }
}

/// Scores `R` expanded tokens, from token `first`, against the `W` registers of lanes from `lane`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn score_tile<const R: usize, const W: usize>(
    tokens: &ResidualTokens<'_>,
    first: usize,
    expanded: &[u8],
    query: &QueryI8,
    lane: usize,
    table: &[f32],
    max: &mut [f32],
) {
    let lanes = query.lanes();
    let sums = integer_tile::<R, W>(expanded, query, lane);
    let mut best = load::<W>(max);
    for (r, sum) in sums.into_iter().enumerate() {
        let t = first + r;
        let (scale, inverse_norm) = unpack_factors(tokens.factors[t], tokens.scales);
        let residual = scaled(sum, scale * inverse_norm);
        let inverse_norm = _mm256_set1_ps(inverse_norm);
        let row = load::<W>(&table[usize::from(tokens.centroids[t]) * lanes + lane..][..W * LANES]);
        for w in 0..W {
            // The order of the scalar twin, without fusing, so that both give the same bits.
            let dot = _mm256_add_ps(_mm256_mul_ps(row[w], inverse_norm), residual[w]);
            best[w] = max_ps(best[w], dot);
        }
    }
    store(max, best);
}

/// Integer dot products of `R` rows of unsigned values with the `W` registers of lanes from `lane`, offset removed.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn integer_tile<const R: usize, const W: usize>(rows: &[u8], query: &QueryI8, lane: usize) -> [[__m256i; W]; R] {
    let (dim, lanes) = (query.dim(), query.lanes());
    debug_assert!(R * dim <= rows.len() && lane + W * LANES <= lanes);
    let ones = _mm256_set1_epi16(1);
    let offset = _mm256_set1_epi32(-LEVEL_OFFSET);
    let mut start = [_mm256_setzero_si256(); W];
    for (w, start) in start.iter_mut().enumerate() {
        // SAFETY: `sums` holds `lanes` values and `lane + 8 W <= lanes`.
        let sum = unsafe { _mm256_loadu_si256(query.sums().as_ptr().add(lane + w * LANES).cast()) };
        *start = _mm256_mullo_epi32(sum, offset);
    }
    let mut sums = [start; R];
    // SAFETY: `rows` holds `R` rows of `dim` bytes, `dim` a multiple of 4; `values` is `[dim / 4, lanes, 4]`.
    unsafe {
        let x = rows.as_ptr();
        let q = query.values().as_ptr().add(lane * 4);
        for d in 0..dim / 4 {
            let q: [__m256i; W] =
                std::array::from_fn(|w| _mm256_loadu_si256(q.add((d * lanes + w * LANES) * 4).cast()));
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(x.add(r * dim + d * 4).cast::<i32>().read_unaligned());
                for (sum, q) in sum.iter_mut().zip(q) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, q), ones));
                }
            }
        }
    }
    sums
}

#[target_feature(enable = "avx2")]
pub(crate) fn decode_fine(
    tokens: &ResidualTokens<'_>,
    fine_steps: &FineSteps,
    (centroids, centroid_scales): (&[u8], &[f32]),
    scratch: &mut Scratch,
    out: &mut [i16],
) {
    let dim = tokens.dim;
    let (levels, steps) = (byte_table(&tokens.unsigned_levels()), byte_table(&fine_steps.steps));
    let fine_codes = byte_table(&FINE_CODES);
    let fine_plane = code_bytes(dim, FINE_BITS);
    let bytes = scratch.bytes(3 * dim);
    for (t, out) in out.chunks_exact_mut(dim).enumerate() {
        // Each may spill into the next, which is written after it.
        expand(tokens.token_codes(t), (tokens.bits, dim), levels, bytes);
        expand(tokens.token_codes(t), (tokens.bits, dim), steps, &mut bytes[dim..]);
        expand(&tokens.fine[t * fine_plane..][..fine_plane], (FINE_BITS, dim), fine_codes, &mut bytes[2 * dim..]);
        let parts = [&bytes[..dim], &bytes[dim..2 * dim], &bytes[2 * dim..3 * dim]];
        let c = usize::from(tokens.centroids[t]);
        combine(&centroids[c * dim..][..dim], parts, tokens.steps(t, fine_steps, centroid_scales), out);
    }
}

#[target_feature(enable = "avx2")]
pub(crate) fn max_word_dots(rows: &[i16], query: &QueryI16, max: &mut [i32]) {
    let (dim, n) = (query.dim(), rows.len() / query.dim());
    max.fill(i32::MIN);
    for_lanes!(query.lanes(), |lane, W| {
        let max = &mut max[lane..][..W * LANES];
        let mut row = 0;
        while row + I8_ROWS <= n {
            word_tile::<I8_ROWS, W>(&rows[row * dim..], query, lane, max);
            row += I8_ROWS;
        }
        while row < n {
            word_tile::<1, W>(&rows[row * dim..], query, lane, max);
            row += 1;
        }
    });
}

/// Raises `max` to the dot products of the first `R` rows with the `W` registers of lanes from `lane`.
#[inline]
#[target_feature(enable = "avx2")]
fn word_tile<const R: usize, const W: usize>(rows: &[i16], query: &QueryI16, lane: usize, max: &mut [i32]) {
    let (dim, lanes) = (query.dim(), query.lanes());
    assert!(R * dim <= rows.len() && lane + W * LANES <= lanes && max.len() >= W * LANES);
    let mut sums = [[_mm256_setzero_si256(); W]; R];
    // SAFETY: `rows` holds `R` rows of `dim` values, `dim` being even; `values` is `[dim / 2, lanes, 2]`; `max` holds `8 W`.
    unsafe {
        let x = rows.as_ptr();
        let q = query.values().as_ptr().add(lane * 2);
        for d in 0..dim / 2 {
            let q: [__m256i; W] =
                std::array::from_fn(|w| _mm256_loadu_si256(q.add((d * lanes + w * LANES) * 2).cast()));
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(x.add(r * dim + d * 2).cast::<i32>().read_unaligned());
                for (sum, q) in sum.iter_mut().zip(q) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, q));
                }
            }
        }
        for w in 0..W {
            let max = max.as_mut_ptr().add(w * LANES).cast();
            let best = sums.iter().fold(_mm256_loadu_si256(max), |best, sum| _mm256_max_epi32(best, sum[w]));
            _mm256_storeu_si256(max, best);
        }
    }
}

/// 16 bytes, twice, for byte shuffles.
#[inline]
#[target_feature(enable = "avx2")]
fn byte_table(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes are read from an array of 16.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Looks a token's codes up in `table`, plane by plane, into `out[dim]`; may write up to 15 bytes more.
#[inline]
#[target_feature(enable = "avx2")]
fn expand(packed: &[u8], (bits, dim): (u32, usize), table: __m256i, out: &mut [u8]) {
    let plane = packed.len();
    let mask = _mm256_set1_epi8(((1u32 << bits) - 1) as i8);
    assert!(plane == code_bytes(dim, bits) && out.len() >= dim + 15);
    for p in 0..8 / bits as usize {
        let shift = _mm_cvtsi32_si128((p as u32 * bits) as i32);
        // What is written beyond a plane is written again with the next one, and what then reads both waits for both.
        if plane.is_multiple_of(32) {
            for j in (0..plane).step_by(32) {
                // SAFETY: 32 bytes are there, and `p * plane + j + 32 <= dim`.
                unsafe {
                    let bytes = _mm256_loadu_si256(packed.as_ptr().add(j).cast());
                    // A 16-bit shift brings bits of the neighbouring byte in; the mask takes them out again.
                    let codes = _mm256_and_si256(_mm256_srl_epi16(bytes, shift), mask);
                    _mm256_storeu_si256(out.as_mut_ptr().add(p * plane + j).cast(), _mm256_shuffle_epi8(table, codes));
                }
            }
        } else {
            let (mask, table) = (_mm256_castsi256_si128(mask), _mm256_castsi256_si128(table));
            for j in (0..plane).step_by(16) {
                let codes = _mm_and_si128(_mm_srl_epi16(load_bytes(&packed[j..]), shift), mask);
                let values = _mm_shuffle_epi8(table, codes);
                // SAFETY: `p * plane + j < dim`, and `out` has 15 bytes behind its `dim`.
                unsafe { _mm_storeu_si128(out.as_mut_ptr().add(p * plane + j).cast(), values) };
            }
        }
    }
}

/// The first 16 bytes, zero where there are fewer.
#[inline]
#[target_feature(enable = "avx2")]
fn load_bytes(bytes: &[u8]) -> __m128i {
    if bytes.len() >= 16 {
        // SAFETY: 16 bytes are there.
        return unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    }
    let mut padded = [0u8; 16];
    padded[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: 16 bytes are read from an array of 16.
    unsafe { _mm_loadu_si128(padded.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn max_ps(a: __m256, b: __m256) -> __m256 {
    _mm256_max_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load<const W: usize>(x: &[f32]) -> [__m256; W] {
    assert!(x.len() >= W * LANES);
    // SAFETY: the values are there.
    std::array::from_fn(|w| unsafe { _mm256_loadu_ps(x.as_ptr().add(w * LANES)) })
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store<const W: usize>(x: &mut [f32], values: [__m256; W]) {
    assert!(x.len() >= W * LANES);
    for (w, value) in values.into_iter().enumerate() {
        // SAFETY: there is room for the values.
        unsafe { _mm256_storeu_ps(x.as_mut_ptr().add(w * LANES), value) };
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load_ids<const W: usize>(x: &[u32]) -> [__m256i; W] {
    assert!(x.len() >= W * LANES);
    // SAFETY: the values are there.
    std::array::from_fn(|w| unsafe { _mm256_loadu_si256(x.as_ptr().add(w * LANES).cast()) })
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store_ids<const W: usize>(x: &mut [u32], values: [__m256i; W]) {
    assert!(x.len() >= W * LANES);
    for (w, value) in values.into_iter().enumerate() {
        // SAFETY: there is room for the values.
        unsafe { _mm256_storeu_si256(x.as_mut_ptr().add(w * LANES).cast(), value) };
    }
}
