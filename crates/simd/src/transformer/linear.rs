//! Linear layers: a tile of rows by one panel of columns at a time, its sums in registers from the first input to the
//! last, bias and activation applied before they are written (Goto and van de Geijn 2008, "Anatomy of high-performance
//! matrix multiplication", without packing rows: they are few).

use std::ops::Range;

use super::Activation;
use super::block::Block;
use super::matrix::{ByteRows, MatrixF32, MatrixI8};
use super::vector::{Vector, gelu};
use crate::prefetch::prefetch_line;

/// Bytes of rows that go through all panels before others do: they stay in a cache of the second level, panels come from
/// the third.
const ROWS_BYTES: usize = 1 << 19;

/// Calls `$body` with tiles that cover the rows `$rows`, at most `$most` high and as equally high as can be: `$R` rows from
/// `$first`. A tile of one or two rows would wait for its own sums.
macro_rules! for_tiles {
    ($rows:expr, $most:expr, |$first:ident, $R:ident| $body:block) => {
        let range: std::ops::Range<usize> = $rows;
        let mut $first = range.start;
        while $first < range.end {
            let left = range.end - $first;
            let rows = left.div_ceil(left.div_ceil($most));
            $crate::transformer::linear::for_tiles!(@sizes rows, $most, $R, $body, [1 2 3 4 5 6 7 8 9 10 11 12]);
            $first += rows;
        }
    };
    (@sizes $rows:ident, $most:expr, $R:ident, $body:block, [$($size:literal)*]) => {
        match $rows {
            $($size if $size <= $most => {
                const $R: usize = $size;
                $body
            })*
            _ => unreachable!("tiles have 1 to 12 rows"),
        }
    };
}
pub(super) use for_tiles;

/// How far ahead of what is read a panel is fetched: it comes from the third cache or from memory, and the processor's own
/// prefetching stops at the end of a page.
const AHEAD: usize = 2048;

/// Fetches what a tile reads of a panel in a while.
#[inline(always)]
fn prefetch(from: *const u8, step: usize) {
    for line in (0..step).step_by(64) {
        prefetch_line(from.wrapping_add(AHEAD + line));
    }
}

/// Products of `R` rows of `depth` values, `stride` apart, with the panel `[depth, 2 * LANES]`.
///
/// # Safety
/// As for [`Vector`]; the rows and the panel are there.
#[inline(always)]
pub(super) unsafe fn tile<V: Vector, const R: usize>(
    rows: *const f32,
    stride: usize,
    panel: *const f32,
    depth: usize,
) -> [[V; 2]; R] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::splat(0.0); 2]; R];
        for i in 0..depth {
            let columns = panel.add(i * 2 * V::LANES);
            prefetch(columns.cast(), 2 * V::LANES * size_of::<f32>());
            let columns = [V::load(columns), V::load(columns.add(V::LANES))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = V::splat(*rows.add(r * stride + i));
                *sums = [x.mul_add(columns[0], sums[0]), x.mul_add(columns[1], sums[1])];
            }
        }
        sums
    }
}

/// [`tile`] of bytes: `groups` groups, sums that begin at `starts`.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn byte_tile<V: Vector, const R: usize>(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    starts: *const i32,
    groups: usize,
) -> [[V::Ints; 2]; R] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::load_ints(starts), V::load_ints(starts.add(V::LANES))]; R];
        for i in 0..groups {
            let columns = panel.add(i * 2 * V::LANES * V::GROUP);
            prefetch(columns.cast(), 2 * V::LANES * V::GROUP);
            let columns = [V::load_bytes(columns), V::load_bytes(columns.add(V::LANES * V::GROUP))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = V::splat_bytes(rows.add(r * stride + i * V::GROUP));
                *sums = [V::add_products(sums[0], x, columns[0]), V::add_products(sums[1], x, columns[1])];
            }
        }
        sums
    }
}

/// Writes the first `columns` of two registers.
///
/// # Safety
/// As for [`Vector`]; so many values can be written.
#[inline(always)]
pub(super) unsafe fn store<V: Vector>(values: [V; 2], to: *mut f32, columns: usize) {
    // SAFETY: the caller's.
    unsafe {
        if columns >= 2 * V::LANES {
            values[0].store(to);
            values[1].store(to.add(V::LANES));
        } else if columns >= V::LANES {
            values[0].store(to);
            values[1].store_first(to.add(V::LANES), columns - V::LANES);
        } else {
            values[0].store_first(to, columns);
        }
    }
}

/// Bias and activation of one panel.
struct Finish<V> {
    bias: [V; 2],
    activation: Activation,
}

impl<V: Vector> Finish<V> {
    /// # Safety
    /// As for [`Vector`]; `bias` has the panel.
    #[inline(always)]
    unsafe fn new(bias: &[f32], column: usize, activation: Activation) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let bias = bias.as_ptr().add(column);
            Self { bias: [V::load(bias), V::load(bias.add(V::LANES))], activation }
        }
    }

    /// # Safety
    /// As for [`Vector`].
    #[inline(always)]
    unsafe fn apply(&self, biased: [V; 2]) -> [V; 2] {
        // SAFETY: the caller's.
        unsafe {
            match self.activation {
                Activation::Identity => biased,
                Activation::Gelu => [gelu(biased[0]), gelu(biased[1])],
            }
        }
    }
}

/// Rows of `row_bytes` that go through the panels together, a multiple of a tile's.
fn rows_together(row_bytes: usize, tile: usize) -> usize {
    (ROWS_BYTES / row_bytes.max(1) / tile).max(1) * tile
}

/// # Safety
/// The processor has `V`; `x` is `[out.rows(), input]` and `out` has the columns of `panels`.
#[inline(always)]
pub(super) unsafe fn linear<V: Vector>(
    x: &[f32],
    matrix: &MatrixF32,
    panels: Range<usize>,
    activation: Activation,
    mut out: Block<'_>,
) {
    let (input, panel) = (matrix.input, matrix.packing.panel);
    let together = rows_together(input * size_of::<f32>(), V::ROWS);
    for from in (0..out.rows()).step_by(together) {
        let to = (from + together).min(out.rows());
        for at in panels.clone() {
            let column = (at - panels.start) * panel;
            let columns = out.columns() - column;
            // SAFETY: the panel is inside the matrix, rows inside `x`, what is written inside the block.
            unsafe {
                let values = matrix.values.as_ptr().add(at * panel * input);
                let finish = Finish::<V>::new(&matrix.bias, at * panel, activation);
                for_tiles!(from..to, V::ROWS, |row, R| {
                    let sums = tile::<V, R>(x.as_ptr().add(row * input), input, values, input);
                    for (r, [a, b]) in sums.into_iter().enumerate() {
                        let biased = [a.add(finish.bias[0]), b.add(finish.bias[1])];
                        store(finish.apply(biased), out.pointer(row + r, column), columns);
                    }
                });
            }
        }
    }
}

/// # Safety
/// The processor has `V`; `x` has `out.rows()` rows of `input` and `out` has the columns of `panels`.
#[inline(always)]
pub(super) unsafe fn byte_linear<V: Vector>(
    x: &ByteRows,
    matrix: &MatrixI8,
    panels: Range<usize>,
    activation: Activation,
    mut out: Block<'_>,
) {
    let (stride, panel) = (x.stride, matrix.packing.panel);
    let together = rows_together(stride, V::ROWS);
    for from in (0..out.rows()).step_by(together) {
        let to = (from + together).min(out.rows());
        for at in panels.clone() {
            let column = (at - panels.start) * panel;
            let columns = out.columns() - column;
            // SAFETY: as in `linear`.
            unsafe {
                let values = matrix.values.as_ptr().add(at * panel * stride);
                let starts = matrix.starts.as_ptr().add(at * panel);
                let scales = matrix.scales.as_ptr().add(at * panel);
                let scales = [V::load(scales), V::load(scales.add(V::LANES))];
                let finish = Finish::<V>::new(&matrix.bias, at * panel, activation);
                for_tiles!(from..to, V::ROWS, |row, R| {
                    let rows = x.bytes.as_ptr().add(row * stride);
                    let sums = byte_tile::<V, R>(rows, stride, values, starts, stride / V::GROUP);
                    for (r, [a, b]) in sums.into_iter().enumerate() {
                        let scale = V::splat(x.scales[row + r]);
                        let biased = [
                            V::to_floats(a).mul_add(scale.mul(scales[0]), finish.bias[0]),
                            V::to_floats(b).mul_add(scale.mul(scales[1]), finish.bias[1]),
                        ];
                        store(finish.apply(biased), out.pointer(row + r, column), columns);
                    }
                });
            }
        }
    }
}
