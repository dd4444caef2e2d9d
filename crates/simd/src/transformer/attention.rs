//! Attention within one text: `softmax((q k^T + added) / sqrt(width)) v` in each head, a few tokens at a time, so that their
//! scores stay in the first cache.
//!
//! Keys and values of a head are copied into panels first, as matrices are ([`super::matrix`]), the keys transposed.

use std::ops::Range;

use super::aligned::Aligned;
use super::block::Block;
use super::linear::{for_tiles, store, tile};
use super::vector::{Vector, exp};
use super::{Heads, Sight};

/// Working memory of attention; one for each thread, reused.
#[derive(Default)]
pub struct AttentionScratch {
    /// `[panels of keys, width, panel]`
    keys: Aligned<f32>,
    /// `[panels of values, tokens, panel]`
    values: Aligned<f32>,
    /// `[tile, panels of keys * panel]`
    scores: Aligned<f32>,
}

impl std::fmt::Debug for AttentionScratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AttentionScratch")
    }
}

/// # Safety
/// The processor has `V`; `x` is `[out.rows(), 3 * heads]`, `out` has the columns of the heads `which`, and what is added to
/// scores, unless it is empty, is `[which, out.rows(), out.rows()]`.
#[inline(always)]
pub(super) unsafe fn attention<V: Vector>(
    x: &[f32],
    heads: Heads,
    which: Range<usize>,
    sight: Sight<'_>,
    mut out: Block<'_>,
    scratch: &mut AttentionScratch,
) {
    let (s, seen) = (out.rows(), sight.attended.min(out.rows()));
    let panel = 2 * V::LANES;
    let (key_panels, value_panels) = (seen.div_ceil(panel), heads.width.div_ceil(panel));
    scratch.keys.reserve(key_panels * heads.width * panel);
    scratch.values.reserve(value_panels * seen * panel);
    scratch.scores.reserve(V::ROWS * key_panels * panel);
    for head in which.clone() {
        let pack = Packed { x, stride: 3 * heads.columns(), width: heads.width, panel, seen };
        pack.keys(heads.columns() + head * heads.width, &mut scratch.keys);
        pack.values(2 * heads.columns() + head * heads.width, &mut scratch.values);
        let column = (head - which.start) * heads.width;
        // Of this head alone.
        let sight = Sight { added: sight.added.get((head - which.start) * s * s..).unwrap_or_default(), ..sight };
        // SAFETY: the caller's; the panels are those of this head.
        unsafe {
            for_tiles!(0..s, V::ROWS, |first, R| {
                let queries = x.as_ptr().add(first * pack.stride + head * heads.width);
                let visible = visible(sight, seen, first..first + R, panel);
                let factors = weigh::<V, R>(queries, &pack, scratch, sight, first..s, visible.clone());
                sum::<V, R>(&pack, scratch, visible, factors, |r, at, values| {
                    store(values, out.pointer(first + r, column + at), heads.width - at);
                });
            });
        }
    }
}

/// The keys that any of `tokens` sees, from the beginning of a panel.
fn visible(sight: Sight<'_>, seen: usize, tokens: Range<usize>, panel: usize) -> Range<usize> {
    let from = tokens.start.saturating_sub(sight.window);
    let to = tokens.end.saturating_add(sight.window).min(seen);
    // Outside of the window on both sides, there is nothing to see.
    if from >= to { 0..0 } else { from / panel * panel..to }
}

/// Keys and values of one head, in panels.
struct Packed<'a> {
    x: &'a [f32],
    stride: usize,
    width: usize,
    panel: usize,
    seen: usize,
}

impl Packed<'_> {
    /// Columns `column..column + width` of each token, transposed; zeros where the last panel has no token.
    fn keys(&self, column: usize, to: &mut [f32]) {
        let (width, panel) = (self.width, self.panel);
        for (at, to) in to.chunks_exact_mut(width * panel).take(self.seen.div_ceil(panel)).enumerate() {
            let here = panel.min(self.seen - at * panel);
            if here < panel {
                to.fill(0.0);
            }
            for t in 0..here {
                let token = &self.x[(at * panel + t) * self.stride + column..][..width];
                for (line, x) in to.chunks_exact_mut(panel).zip(token) {
                    line[t] = *x;
                }
            }
        }
    }

    /// Columns `column..column + width` of each token; zeros behind the last column.
    fn values(&self, column: usize, to: &mut [f32]) {
        let (width, panel) = (self.width, self.panel);
        if self.seen == 0 {
            return;
        }
        for (at, to) in to.chunks_exact_mut(self.seen * panel).take(width.div_ceil(panel)).enumerate() {
            let here = panel.min(width - at * panel);
            for (t, line) in to.chunks_exact_mut(panel).enumerate() {
                line[..here].copy_from_slice(&self.x[t * self.stride + column + at * panel..][..here]);
                line[here..].fill(0.0);
            }
        }
    }
}

/// Writes the weights of the keys `visible` into `scratch.scores`, for the first `R` of `tokens`; returns what makes the
/// weights of a token sum up to 1, or 0 for a token that sees nothing.
///
/// # Safety
/// As for [`attention`]; `queries` points at the head of the first token.
#[inline(always)]
unsafe fn weigh<V: Vector, const R: usize>(
    queries: *const f32,
    pack: &Packed<'_>,
    scratch: &mut AttentionScratch,
    sight: Sight<'_>,
    tokens: Range<usize>,
    visible: Range<usize>,
) -> [f32; R] {
    let (first, s) = (tokens.start, tokens.end);
    let panel = 2 * V::LANES;
    let (room, padded) = (pack.seen.next_multiple_of(panel), visible.end.next_multiple_of(panel));
    let mut factors = [0.0; R];
    // SAFETY: scores has `R` rows of `room`, and keys has the panels of `visible`.
    unsafe {
        let scores = scratch.scores.as_mut_ptr();
        let scale = V::splat(1.0 / (pack.width as f32).sqrt());
        let mut largest = [V::splat(f32::NEG_INFINITY); R];
        for key in (visible.start..padded).step_by(panel) {
            let sums = tile::<V, R>(queries, pack.stride, scratch.keys.as_ptr().add(key * pack.width), pack.width);
            for (r, [a, b]) in sums.into_iter().enumerate() {
                let at = scores.add(r * room + key);
                let mut pair = [a, b];
                if !sight.added.is_empty() {
                    let row = sight.added.as_ptr().add((first + r) * s + key);
                    let added = row_of_panel(row, s.saturating_sub(key));
                    pair = [a.add(added[0]), b.add(added[1])];
                }
                pair = [pair[0].mul(scale), pair[1].mul(scale)];
                store(pair, at, panel);
                // The keys of this panel that token `first + r` sees.
                let sees = (first + r).saturating_sub(sight.window)
                    ..(first + r).saturating_add(sight.window).saturating_add(1);
                let sees = sees.start.clamp(key, key + panel)..sees.end.min(pack.seen).clamp(key, key + panel);
                if sees.len() < panel {
                    for hidden in (key..key + panel).filter(|k| !sees.contains(k)) {
                        *at.add(hidden - key) = f32::NEG_INFINITY;
                    }
                    pair = [V::load(at), V::load(at.add(V::LANES))];
                }
                largest[r] = pair[0].larger(pair[1]).larger(largest[r]);
            }
        }
        for (r, factor) in factors.iter_mut().enumerate() {
            // It sees nothing. Not told by its scores: if these are no numbers, its weights are none.
            if (first + r).saturating_sub(sight.window) >= pack.seen {
                std::slice::from_raw_parts_mut(scores.add(r * room + visible.start), visible.len()).fill(0.0);
                continue;
            }
            let (largest, mut sum) = (V::splat(largest[r].largest()), V::splat(0.0));
            for key in (visible.start..padded).step_by(V::LANES) {
                let at = scores.add(r * room + key);
                let weight = exp(V::load(at).sub(largest));
                weight.store(at);
                sum = sum.add(weight);
            }
            *factor = 1.0 / sum.sum();
        }
    }
    factors
}

/// The next two registers of a row that has `left` values more; zeros behind them.
///
/// # Safety
/// The processor has `V`, and the values are there.
#[inline(always)]
unsafe fn row_of_panel<V: Vector>(row: *const f32, left: usize) -> [V; 2] {
    // SAFETY: the caller's.
    unsafe {
        if left >= 2 * V::LANES {
            return [V::load(row), V::load(row.add(V::LANES))];
        }
        let first = left.min(V::LANES);
        [V::load_first(row, first), V::load_first(row.add(first), left - first)]
    }
}

/// Sums of the values of the keys `visible`, by weights; hands `write` the token, the first column, and two registers.
///
/// # Safety
/// As for [`weigh`].
#[inline(always)]
unsafe fn sum<V: Vector, const R: usize>(
    pack: &Packed<'_>,
    scratch: &AttentionScratch,
    visible: Range<usize>,
    factors: [f32; R],
    mut write: impl FnMut(usize, usize, [V; 2]),
) {
    let panel = 2 * V::LANES;
    let room = pack.seen.next_multiple_of(panel);
    for column in (0..pack.width).step_by(panel) {
        // SAFETY: the panel has `seen` values of the columns, and a row of scores a weight for each.
        unsafe {
            let values = scratch.values.as_ptr().add(column * pack.seen + visible.start * panel);
            let sums = tile::<V, R>(scratch.scores.as_ptr().add(visible.start), room, values, visible.len());
            for (r, [a, b]) in sums.into_iter().enumerate() {
                let factor = V::splat(factors[r]);
                write(r, column, [a.mul(factor), b.mul(factor)]);
            }
        }
    }
}
