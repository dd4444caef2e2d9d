//! The kernels in plain Rust: the specification of every twin.

use crate::query::{QueryF32, QueryI8};
use crate::residual::{LEVEL_OFFSET, ResidualTokens, code_bytes, unpack_codes};

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

/// `max[lanes] = max over ids of table[id, lanes]`.
pub(crate) fn max_rows(ids: &[u32], table: &[f32], lanes: usize, max: &mut [f32]) {
    max.fill(f32::NEG_INFINITY);
    for &id in ids {
        let row = &table[id as usize * lanes..][..lanes];
        for (m, &x) in max.iter_mut().zip(row) {
            *m = m.max(x);
        }
    }
}

/// `max[lanes] = max over tokens of (table[centroid, lanes] + scale * (levels . query)) * inverse norm`.
pub(crate) fn max_residual_dots(tokens: &ResidualTokens<'_>, query: &QueryI8, table: &[f32], max: &mut [f32]) {
    let lanes = query.lanes();
    let levels = tokens.unsigned_levels();
    let mut codes = vec![0u8; tokens.dim];
    let mut sums = vec![0i32; lanes];
    max.fill(f32::NEG_INFINITY);
    for (t, packed) in tokens.codes.chunks_exact(code_bytes(tokens.dim, tokens.bits)).enumerate() {
        unpack_codes(packed, tokens.bits, &mut codes);
        for (sum, &of_row) in sums.iter_mut().zip(query.sums()) {
            *sum = -LEVEL_OFFSET * of_row;
        }
        for (group, q) in codes.chunks_exact(4).zip(query.values().chunks_exact(lanes * 4)) {
            for (sum, q) in sums.iter_mut().zip(q.chunks_exact(4)) {
                *sum += group.iter().zip(q).map(|(&c, &q)| i32::from(levels[c as usize]) * i32::from(q)).sum::<i32>();
            }
        }
        let (scale, inverse_norm) = (tokens.scales[t].to_f32(), tokens.inverse_norms[t].to_f32());
        let row = &table[tokens.centroids[t] as usize * lanes..][..lanes];
        for lane in 0..lanes {
            let residual = sums[lane] as f32 * (scale * query.scales()[lane]);
            max[lane] = max[lane].max((row[lane] + residual) * inverse_norm);
        }
    }
}
