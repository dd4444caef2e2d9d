//! AVX-512 twins of the integer kernels: one instruction multiplies four bytes and adds them up (VNNI). Query rows lie in
//! registers of 16 lanes, two at a time, then one, and 8 lanes in half a register for what is left.
//!
//! The callers ([`crate::Kernels`]) have checked all sizes; the loops below rely on them.

use std::arch::x86_64::*;

use crate::decode::{FINE_CODES, FineSteps, combine};
use crate::query::{LANES, QueryI8, QueryI16};
use crate::residual::{FINE_BITS, LEVEL_OFFSET, MAX_DIM, ResidualTokens, code_bytes, unpack_factors};
use crate::scratch::Scratch;

/// Lanes of a whole register.
const WIDE: usize = 2 * LANES;
/// Tokens of a tile: 12 x 2 accumulators, 2 query registers and a broadcast, of 32 registers.
const ROWS: usize = 12;
/// Bytes from one expanded token to the next: known when compiling, so that a tile takes one address register, and no
/// power of two, so that tokens do not compete for the same lines of L1.
const STRIDE: usize = MAX_DIM + 64;
/// Tokens of the tiles for what is left of a document: enough to hide the latency of a multiplication.
const FEW_ROWS: usize = 4;

/// Calls `$body` for `$n` rows with `$R` rows from `$row`: [`ROWS`] while they last, then [`FEW_ROWS`], then single ones.
macro_rules! for_rows {
    ($n:expr, |$row:ident, $R:ident| $body:block) => {
        let mut $row = 0;
        while $row + ROWS <= $n {
            const $R: usize = ROWS;
            $body
            $row += ROWS;
        }
        while $row + FEW_ROWS <= $n {
            const $R: usize = FEW_ROWS;
            $body
            $row += FEW_ROWS;
        }
        while $row < $n {
            const $R: usize = 1;
            $body
            $row += 1;
        }
    };
}

/// Calls `$wide` for blocks of `$W` whole registers from `$lane`, and `$half` for 8 lanes that are left.
macro_rules! for_lanes {
    ($lanes:expr, |$lane:ident, $W:ident| $wide:block, $half:block) => {
        let mut $lane = 0;
        while $lane + 2 * WIDE <= $lanes {
            const $W: usize = 2;
            $wide
            $lane += 2 * WIDE;
        }
        if $lane + WIDE <= $lanes {
            const $W: usize = 1;
            $wide
            $lane += WIDE;
        }
        if $lane < $lanes $half
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(crate) fn byte_dots(rows: &[u8], scales: &[f32], query: &QueryI8, out: &mut [f32]) {
    let (dim, lanes) = (query.dim(), query.lanes());
    for_rows!(scales.len(), |row, R| {
        let bytes = &rows[row * dim..(row + R) * dim];
        for_lanes!(
            lanes,
            |lane, W| {
                let sums = wide_tile::<R, W>(bytes, dim, query, lane);
                for (r, sum) in sums.iter().enumerate() {
                    let scale = _mm512_set1_ps(scales[row + r]);
                    for (w, &sum) in sum.iter().enumerate() {
                        let out = &mut out[(row + r) * lanes + lane + w * WIDE..][..WIDE];
                        // SAFETY: there is room for 16 values.
                        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale)) };
                    }
                }
            },
            {
                let sums = half_tile::<R>(bytes, dim, query, lane);
                for (r, &sum) in sums.iter().enumerate() {
                    let out = &mut out[(row + r) * lanes + lane..][..LANES];
                    let scale = _mm256_set1_ps(scales[row + r]);
                    // SAFETY: there is room for 8 values.
                    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale)) };
                }
            }
        );
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(crate) fn byte_nearest(rows: &[u8], scales: &[f32], query: &QueryI8, best: &mut [f32], ids: &mut [u32]) {
    let (dim, lanes) = (query.dim(), query.lanes());
    for_rows!(scales.len(), |row, R| {
        let bytes = &rows[row * dim..(row + R) * dim];
        for_lanes!(
            lanes,
            |lane, W| {
                let sums = wide_tile::<R, W>(bytes, dim, query, lane);
                for w in 0..W {
                    let at = lane + w * WIDE;
                    let (best, ids) = (&mut best[at..][..WIDE], &mut ids[at..][..WIDE]);
                    // SAFETY: 16 values are there, each.
                    let (mut dots, mut of) =
                        unsafe { (_mm512_loadu_ps(best.as_ptr()), _mm512_loadu_si512(ids.as_ptr().cast())) };
                    for (r, sum) in sums.iter().enumerate() {
                        let dot = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[w]), _mm512_set1_ps(scales[row + r]));
                        let wins = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(dot, dots);
                        dots = _mm512_mask_mov_ps(dots, wins, dot);
                        of = _mm512_mask_mov_epi32(of, wins, _mm512_set1_epi32((row + r) as i32));
                    }
                    // SAFETY: as above.
                    unsafe {
                        _mm512_storeu_ps(best.as_mut_ptr(), dots);
                        _mm512_storeu_si512(ids.as_mut_ptr().cast(), of);
                    }
                }
            },
            {
                let sums = half_tile::<R>(bytes, dim, query, lane);
                let (best, ids) = (&mut best[lane..][..LANES], &mut ids[lane..][..LANES]);
                // SAFETY: 8 values are there, each.
                let (mut dots, mut of) =
                    unsafe { (_mm256_loadu_ps(best.as_ptr()), _mm256_loadu_si256(ids.as_ptr().cast())) };
                for (r, &sum) in sums.iter().enumerate() {
                    let dot = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(scales[row + r]));
                    let wins = _mm256_cmp_ps_mask::<_CMP_GT_OQ>(dot, dots);
                    dots = _mm256_mask_mov_ps(dots, wins, dot);
                    of = _mm256_mask_mov_epi32(of, wins, _mm256_set1_epi32((row + r) as i32));
                }
                // SAFETY: as above.
                unsafe {
                    _mm256_storeu_ps(best.as_mut_ptr(), dots);
                    _mm256_storeu_si256(ids.as_mut_ptr().cast(), of);
                }
            }
        );
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(crate) fn max_residual_dots(
    tokens: &ResidualTokens<'_>,
    query: &QueryI8,
    table: &[f32],
    scratch: &mut Scratch,
    max: &mut [f32],
) {
    let levels = byte_table(&tokens.unsigned_levels());
    // The levels of one tile of tokens, `[ROWS, STRIDE]`: what is used of it stays in L1.
    let expanded = scratch.bytes(ROWS * STRIDE);
    max.fill(f32::NEG_INFINITY);
    for_rows!(tokens.len(), |row, R| {
        for r in 0..R {
            expand(tokens.token_codes(row + r), (tokens.bits, tokens.dim), levels, &mut expanded[r * STRIDE..]);
        }
        for_lanes!(
            query.lanes(),
            |lane, W| {
                score_wide::<R, W>(tokens, row, expanded, query, lane, table, &mut max[lane..]);
            },
            {
                score_half::<R>(tokens, row, expanded, query, lane, table, &mut max[lane..]);
            }
        );
    });
}

/// Scores `R` expanded tokens, from token `first`, against `W` registers of 16 lanes from `lane`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn score_wide<const R: usize, const W: usize>(
    tokens: &ResidualTokens<'_>,
    first: usize,
    expanded: &[u8],
    query: &QueryI8,
    lane: usize,
    table: &[f32],
    max: &mut [f32],
) {
    let sums = wide_tile::<R, W>(expanded, STRIDE, query, lane);
    let max = &mut max[..W * WIDE];
    // SAFETY: `max` holds `16 W` values.
    let mut best: [__m512; W] = std::array::from_fn(|w| unsafe { _mm512_loadu_ps(max.as_ptr().add(w * WIDE)) });
    for (r, sum) in sums.iter().enumerate() {
        let t = first + r;
        let (scale, inverse_norm) = unpack_factors(tokens.factors[t], tokens.scales);
        let scale = _mm512_set1_ps(scale * inverse_norm);
        let inverse_norm = _mm512_set1_ps(inverse_norm);
        let row = &table[usize::from(tokens.centroids[t]) * query.lanes() + lane..][..W * WIDE];
        for w in 0..W {
            // SAFETY: `row` holds `16 W` values.
            let row = unsafe { _mm512_loadu_ps(row.as_ptr().add(w * WIDE)) };
            // The order of the scalar twin, without fusing, so that both give the same bits.
            let residual = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[w]), scale);
            best[w] = _mm512_max_ps(best[w], _mm512_add_ps(_mm512_mul_ps(row, inverse_norm), residual));
        }
    }
    for (w, best) in best.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(max.as_mut_ptr().add(w * WIDE), best) };
    }
}

/// As [`score_wide`], for 8 lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn score_half<const R: usize>(
    tokens: &ResidualTokens<'_>,
    first: usize,
    expanded: &[u8],
    query: &QueryI8,
    lane: usize,
    table: &[f32],
    max: &mut [f32],
) {
    let sums = half_tile::<R>(expanded, STRIDE, query, lane);
    let max = &mut max[..LANES];
    // SAFETY: `max` holds 8 values.
    let mut best = unsafe { _mm256_loadu_ps(max.as_ptr()) };
    for (r, &sum) in sums.iter().enumerate() {
        let t = first + r;
        let (scale, inverse_norm) = unpack_factors(tokens.factors[t], tokens.scales);
        let row = &table[usize::from(tokens.centroids[t]) * query.lanes() + lane..][..LANES];
        // SAFETY: `row` holds 8 values.
        let row = unsafe { _mm256_loadu_ps(row.as_ptr()) };
        let residual = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(scale * inverse_norm));
        best = _mm256_max_ps(best, _mm256_add_ps(_mm256_mul_ps(row, _mm256_set1_ps(inverse_norm)), residual));
    }
    // SAFETY: as above.
    unsafe { _mm256_storeu_ps(max.as_mut_ptr(), best) };
}

/// Integer dot products of `R` rows of unsigned values with `W` registers of 16 lanes from `lane`, offset removed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn wide_tile<const R: usize, const W: usize>(
    rows: &[u8],
    stride: usize,
    query: &QueryI8,
    lane: usize,
) -> [[__m512i; W]; R] {
    let (dim, lanes) = (query.dim(), query.lanes());
    debug_assert!((R - 1) * stride + dim <= rows.len() && lane + W * WIDE <= lanes);
    let offset = _mm512_set1_epi32(-LEVEL_OFFSET);
    let mut start = [_mm512_setzero_si512(); W];
    for (w, start) in start.iter_mut().enumerate() {
        // SAFETY: `sums` holds `lanes` values and `lane + 16 W <= lanes`.
        let sum = unsafe { _mm512_loadu_si512(query.sums().as_ptr().add(lane + w * WIDE).cast()) };
        *start = _mm512_mullo_epi32(sum, offset);
    }
    let mut sums = [start; R];
    // SAFETY: `rows` holds `R` rows of `dim` bytes, `stride` apart, `dim` a multiple of 4; `values` is `[dim / 4, lanes, 4]`.
    unsafe {
        let x = rows.as_ptr();
        let q = query.values().as_ptr().add(lane * 4);
        for d in 0..dim / 4 {
            let q: [__m512i; W] = std::array::from_fn(|w| _mm512_loadu_si512(q.add((d * lanes + w * WIDE) * 4).cast()));
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(x.add(r * stride + d * 4).cast::<i32>().read_unaligned());
                for (sum, q) in sum.iter_mut().zip(q) {
                    *sum = _mm512_dpbusd_epi32(*sum, x, q);
                }
            }
        }
    }
    sums
}

/// As [`wide_tile`], for 8 lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn half_tile<const R: usize>(rows: &[u8], stride: usize, query: &QueryI8, lane: usize) -> [__m256i; R] {
    let (dim, lanes) = (query.dim(), query.lanes());
    debug_assert!((R - 1) * stride + dim <= rows.len() && lane + LANES <= lanes);
    // SAFETY: `sums` holds `lanes` values and `lane + 8 <= lanes`.
    let sum = unsafe { _mm256_loadu_si256(query.sums().as_ptr().add(lane).cast()) };
    let mut sums = [_mm256_mullo_epi32(sum, _mm256_set1_epi32(-LEVEL_OFFSET)); R];
    // SAFETY: `rows` holds `R` rows of `dim` bytes, `stride` apart, `dim` a multiple of 4; `values` is `[dim / 4, lanes, 4]`.
    unsafe {
        let x = rows.as_ptr();
        let q = query.values().as_ptr().add(lane * 4);
        for d in 0..dim / 4 {
            let q = _mm256_loadu_si256(q.add(d * lanes * 4).cast());
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(x.add(r * stride + d * 4).cast::<i32>().read_unaligned());
                *sum = _mm256_dpbusd_epi32(*sum, x, q);
            }
        }
    }
    sums
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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
    let (levels_of, rest) = scratch.bytes(3 * dim).split_at_mut(dim);
    let (steps_of, fine) = rest.split_at_mut(dim);
    for (t, out) in out.chunks_exact_mut(dim).enumerate() {
        expand(tokens.token_codes(t), (tokens.bits, dim), levels, levels_of);
        expand(tokens.token_codes(t), (tokens.bits, dim), steps, steps_of);
        expand(&tokens.fine[t * fine_plane..][..fine_plane], (FINE_BITS, dim), fine_codes, fine);
        let c = usize::from(tokens.centroids[t]);
        let steps = tokens.steps(t, fine_steps, centroid_scales);
        combine(&centroids[c * dim..][..dim], [levels_of, steps_of, &fine[..dim]], steps, out);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(crate) fn max_word_dots(rows: &[i16], query: &QueryI16, max: &mut [i32]) {
    let dim = query.dim();
    max.fill(i32::MIN);
    for_rows!(rows.len() / dim, |row, R| {
        let rows = &rows[row * dim..(row + R) * dim];
        for_lanes!(
            query.lanes(),
            |lane, W| {
                word_tile::<R, W>(rows, query, lane, &mut max[lane..][..W * WIDE]);
            },
            {
                half_word_tile::<R>(rows, query, lane, &mut max[lane..][..LANES]);
            }
        );
    });
}

/// Raises `max` to the dot products of `R` rows with `W` registers of 16 lanes from `lane`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn word_tile<const R: usize, const W: usize>(rows: &[i16], query: &QueryI16, lane: usize, max: &mut [i32]) {
    let (dim, lanes) = (query.dim(), query.lanes());
    assert!(R * dim <= rows.len() && lane + W * WIDE <= lanes && max.len() == W * WIDE);
    let mut sums = [[_mm512_setzero_si512(); W]; R];
    // SAFETY: `rows` holds `R` rows of `dim` values, `dim` being even; `values` is `[dim / 2, lanes, 2]`; `max` holds `16 W`.
    unsafe {
        let x = rows.as_ptr();
        let q = query.values().as_ptr().add(lane * 2);
        for d in 0..dim / 2 {
            let q: [__m512i; W] = std::array::from_fn(|w| _mm512_loadu_si512(q.add((d * lanes + w * WIDE) * 2).cast()));
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(x.add(r * dim + d * 2).cast::<i32>().read_unaligned());
                for (sum, q) in sum.iter_mut().zip(q) {
                    *sum = _mm512_dpwssd_epi32(*sum, x, q);
                }
            }
        }
        for w in 0..W {
            let max = max.as_mut_ptr().add(w * WIDE).cast();
            let best = sums.iter().fold(_mm512_loadu_si512(max), |best, sum| _mm512_max_epi32(best, sum[w]));
            _mm512_storeu_si512(max, best);
        }
    }
}

/// As [`word_tile`], for 8 lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn half_word_tile<const R: usize>(rows: &[i16], query: &QueryI16, lane: usize, max: &mut [i32]) {
    let (dim, lanes) = (query.dim(), query.lanes());
    assert!(R * dim <= rows.len() && lane + LANES <= lanes && max.len() == LANES);
    let mut sums = [_mm256_setzero_si256(); R];
    // SAFETY: as in `word_tile`, with 8 lanes.
    unsafe {
        let x = rows.as_ptr();
        let q = query.values().as_ptr().add(lane * 2);
        for d in 0..dim / 2 {
            let q = _mm256_loadu_si256(q.add(d * lanes * 2).cast());
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(x.add(r * dim + d * 2).cast::<i32>().read_unaligned());
                *sum = _mm256_dpwssd_epi32(*sum, x, q);
            }
        }
        let max = max.as_mut_ptr().cast();
        let best = sums.iter().fold(_mm256_loadu_si256(max), |best, sum| _mm256_max_epi32(best, *sum));
        _mm256_storeu_si256(max, best);
    }
}

/// 16 bytes, four times, for byte shuffles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn byte_table(bytes: &[u8; 16]) -> __m512i {
    // SAFETY: 16 bytes are read from an array of 16.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Looks a token's codes up in `table`, plane by plane, into `out[dim]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn expand(packed: &[u8], (bits, dim): (u32, usize), table: __m512i, out: &mut [u8]) {
    let plane = packed.len();
    assert!(plane == code_bytes(dim, bits));
    let out = &mut out[..dim];
    let mask = _mm512_set1_epi8(((1u32 << bits) - 1) as i8);
    for j in (0..plane).step_by(64) {
        let there: __mmask64 = u64::MAX >> (64 - (plane - j).min(64));
        // SAFETY: only bytes that are there are read.
        let bytes = unsafe { _mm512_maskz_loadu_epi8(there, packed.as_ptr().add(j).cast()) };
        for p in 0..8 / bits as usize {
            let shift = _mm_cvtsi32_si128((p as u32 * bits) as i32);
            // A 16-bit shift brings bits of the neighbouring byte in; the mask takes them out again.
            let codes = _mm512_and_si512(_mm512_srl_epi16(bytes, shift), mask);
            let values = _mm512_shuffle_epi8(table, codes);
            // SAFETY: only as many bytes as the plane has are written, and all planes lie inside of `out[dim]`.
            unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr().add(p * plane + j).cast(), there, values) };
        }
    }
}
