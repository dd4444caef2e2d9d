//! The kernels in plain Rust: the specification of every twin.

use crate::decode::{FineSteps, combine};
use crate::estimate::Estimates;
use crate::query::{QueryF32, QueryI8, QueryI16};
use crate::residual::{
    FINE_BITS, LEVEL_OFFSET, ResidualTokens, code_bytes, scale_number, unpack_codes, unpack_factors,
};
use crate::scratch::Scratch;

/// `out[n, lanes] = rows[n, d] . query[d, lanes]`.
pub(crate) fn dots(rows: &[f32], query: &QueryF32, out: &mut [f32]) {
    let lanes = query.lanes();
    for (row, out) in rows.chunks_exact(query.dim()).zip(out.chunks_exact_mut(lanes)) {
        out.fill(0.0);
        for (&x, q) in row.iter().zip(query.values().chunks_exact(lanes)) {
            for (o, &y) in out.iter_mut().zip(q) {
                *o += x * y;
            }
        }
    }
}

/// `max[lanes] = max over rows of rows[n, d] . query[d, lanes]`.
pub(crate) fn max_dots(rows: &[f32], query: &QueryF32, max: &mut [f32]) {
    max.fill(f32::NEG_INFINITY);
    let mut dot = vec![0.0; query.lanes()];
    for row in rows.chunks_exact(query.dim()) {
        dots(row, query, &mut dot);
        for (m, &x) in max.iter_mut().zip(&dot) {
            *m = m.max(x);
        }
    }
}

/// For each lane: the row with the largest dot product, if that beats `best_dot`; the first of equals.
pub(crate) fn nearest(rows: &[f32], first: u32, query: &QueryF32, best: &mut [u32], best_dot: &mut [f32]) {
    let mut dot = vec![0.0; query.lanes()];
    for (i, row) in rows.chunks_exact(query.dim()).enumerate() {
        dots(row, query, &mut dot);
        for (lane, &x) in dot.iter().enumerate() {
            if x > best_dot[lane] {
                best_dot[lane] = x;
                best[lane] = first + i as u32;
            }
        }
    }
}

/// `max[lanes] = max over tokens of table[id, lanes] * weight + bonus[lanes]`, weight and bonus being those of its scale.
pub(crate) fn max_estimates(ids: &[u16], factors: &[u16], estimates: &Estimates, table: &[f32], max: &mut [f32]) {
    let lanes = max.len();
    max.fill(f32::NEG_INFINITY);
    for (&id, &factors) in ids.iter().zip(factors) {
        let scale = scale_number(factors);
        let (weight, bonus) = (estimates.weights[scale], &estimates.bonuses[scale * lanes..][..lanes]);
        let row = &table[usize::from(id) * lanes..][..lanes];
        for ((m, &x), &bonus) in max.iter_mut().zip(row).zip(bonus) {
            *m = m.max(x * weight + bonus);
        }
    }
}

/// `out[n, lanes] = scales[n] * ((rows[n, d] - offset) . query[d, lanes])`.
pub(crate) fn byte_dots(rows: &[u8], scales: &[f32], query: &QueryI8, out: &mut [f32]) {
    let lanes = query.lanes();
    let mut sums = vec![0i32; lanes];
    let rows = rows.chunks_exact(query.dim()).zip(scales);
    for ((row, &scale), out) in rows.zip(out.chunks_exact_mut(lanes)) {
        integer_dots(row, query, &mut sums);
        for (o, &sum) in out.iter_mut().zip(&sums) {
            *o = sum as f32 * scale;
        }
    }
}

/// The row with the largest dot product for each lane, and that product.
pub(crate) fn byte_nearest(rows: &[u8], scales: &[f32], query: &QueryI8, best: &mut [f32], ids: &mut [u32]) {
    nearest_by_dots(byte_dots, rows, scales, query, best, ids);
}

/// [`byte_nearest`] by an instruction set's `byte_dots`, a few rows at a time.
pub(crate) fn nearest_by_dots(
    byte_dots: impl Fn(&[u8], &[f32], &QueryI8, &mut [f32]),
    rows: &[u8],
    scales: &[f32],
    query: &QueryI8,
    best: &mut [f32],
    ids: &mut [u32],
) {
    const ROWS: usize = 16;
    let lanes = query.lanes();
    let mut dots = vec![0.0; ROWS * lanes];
    let chunks = rows.chunks(ROWS * query.dim()).zip(scales.chunks(ROWS));
    for (first, (rows, scales)) in (0..).step_by(ROWS).zip(chunks) {
        let dots = &mut dots[..scales.len() * lanes];
        byte_dots(rows, scales, query, dots);
        for (id, dots) in (first..).zip(dots.chunks_exact(lanes)) {
            for ((&dot, best), best_id) in dots.iter().zip(&mut *best).zip(&mut *ids) {
                let wins = dot > *best;
                *best = if wins { dot } else { *best };
                *best_id = if wins { id } else { *best_id };
            }
        }
    }
}

/// `max[lanes] = max over tokens of table[centroid, lanes] * inverse norm + (levels . query) * (scale * inverse norm)`.
pub(crate) fn max_residual_dots(
    tokens: &ResidualTokens<'_>,
    query: &QueryI8,
    table: &[f32],
    scratch: &mut Scratch,
    max: &mut [f32],
) {
    let lanes = query.lanes();
    let levels = tokens.unsigned_levels();
    let dim = tokens.dim;
    let codes = scratch.bytes(dim);
    let mut sums = vec![0i32; lanes];
    max.fill(f32::NEG_INFINITY);
    for (t, packed) in tokens.codes.chunks_exact(code_bytes(dim, tokens.bits)).enumerate() {
        unpack_codes(packed, tokens.bits, &mut codes[..dim]);
        codes[..dim].iter_mut().for_each(|code| *code = levels[usize::from(*code)]);
        integer_dots(&codes[..dim], query, &mut sums);
        let (scale, inverse_norm) = unpack_factors(tokens.factors[t], tokens.scales);
        let scale = scale * inverse_norm;
        let row = &table[usize::from(tokens.centroids[t]) * lanes..][..lanes];
        for lane in 0..lanes {
            max[lane] = max[lane].max(row[lane] * inverse_norm + sums[lane] as f32 * scale);
        }
    }
}

/// `out[n, d] =` the tokens with their fine codes.
pub(crate) fn decode_fine(
    tokens: &ResidualTokens<'_>,
    fine_steps: &FineSteps,
    (centroids, centroid_scales): (&[u8], &[f32]),
    scratch: &mut Scratch,
    out: &mut [i16],
) {
    let dim = tokens.dim;
    let levels = tokens.unsigned_levels();
    let fine_plane = code_bytes(dim, FINE_BITS);
    let (levels_of, rest) = scratch.bytes(3 * dim).split_at_mut(dim);
    let (steps_of, fine) = rest.split_at_mut(dim);
    for (t, out) in out.chunks_exact_mut(dim).enumerate() {
        unpack_codes(tokens.token_codes(t), tokens.bits, levels_of);
        for (level, step) in levels_of.iter_mut().zip(&mut *steps_of) {
            let code = usize::from(*level);
            (*level, *step) = (levels[code], fine_steps.steps[code]);
        }
        unpack_codes(&tokens.fine[t * fine_plane..][..fine_plane], FINE_BITS, &mut fine[..dim]);
        let c = usize::from(tokens.centroids[t]);
        let steps = tokens.steps(t, fine_steps, centroid_scales);
        combine(&centroids[c * dim..][..dim], [levels_of, steps_of, fine], steps, out);
    }
}

/// `max[lanes] = max over rows of rows[n, d] . query[d, lanes]`, exactly.
pub(crate) fn max_word_dots(rows: &[i16], query: &QueryI16, max: &mut [i32]) {
    let lanes = query.lanes();
    let mut sums = vec![0i32; lanes];
    max.fill(i32::MIN);
    for row in rows.chunks_exact(query.dim()) {
        sums.fill(0);
        for (pair, q) in row.chunks_exact(2).zip(query.values().chunks_exact(2 * lanes)) {
            for (sum, q) in sums.iter_mut().zip(q.chunks_exact(2)) {
                // Rows of a length that no token has may overflow, here as in the twins.
                let product = i32::from(pair[0]) * i32::from(q[0]);
                *sum = sum.wrapping_add(product.wrapping_add(i32::from(pair[1]) * i32::from(q[1])));
            }
        }
        max.iter_mut().zip(&sums).for_each(|(max, &sum)| *max = sum.max(*max));
    }
}

/// `sums[lanes] = (row[d] - offset) . query[d, lanes]`, exactly.
fn integer_dots(row: &[u8], query: &QueryI8, sums: &mut [i32]) {
    let lanes = query.lanes();
    for (sum, &of_row) in sums.iter_mut().zip(query.sums()) {
        *sum = -LEVEL_OFFSET * of_row;
    }
    for (group, q) in row.chunks_exact(4).zip(query.values().chunks_exact(lanes * 4)) {
        for (sum, q) in sums.iter_mut().zip(q.chunks_exact(4)) {
            *sum += group.iter().zip(q).map(|(&x, &q)| i32::from(x) * i32::from(q)).sum::<i32>();
        }
    }
}
