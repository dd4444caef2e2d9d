//! Part of a matrix, to be written: some rows, some columns. Threads that share a matrix take a block each.

use std::marker::PhantomData;

/// `rows x columns` values of a row-major matrix, `stride` values from one row to the next.
#[derive(Debug)]
pub struct Block<'a> {
    at: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a block is a `&mut` of its values, and no two blocks have one in common.
unsafe impl Send for Block<'_> {}

impl<'a> Block<'a> {
    /// All of `matrix`, `[n, columns]`.
    ///
    /// # Panics
    /// When `matrix` is not that.
    pub fn new(matrix: &'a mut [f32], columns: usize) -> Self {
        let rows = crate::dispatch::whole_rows(matrix.len(), columns);
        Self { at: matrix.as_mut_ptr(), rows, columns, stride: columns, matrix: PhantomData }
    }

    /// Its rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Its columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The rows before `row`, and the others.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn split_rows(self, row: usize) -> (Self, Self) {
        assert!(row <= self.rows, "row {row} of {}", self.rows);
        // `wrapping`: without rows behind it, the second part begins outside of the matrix; it is never followed then.
        let at = self.at.wrapping_add(row * self.stride);
        (Self { rows: row, ..self }, Self { at, rows: self.rows - row, ..self })
    }

    /// The columns before `column`, and the others.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn split_columns(self, column: usize) -> (Self, Self) {
        assert!(column <= self.columns, "column {column} of {}", self.columns);
        let at = self.at.wrapping_add(column);
        (Self { columns: column, ..self }, Self { at, columns: self.columns - column, ..self })
    }

    /// Where `row` has `column` and what is behind it in the block.
    #[inline]
    pub(super) fn pointer(&mut self, row: usize, column: usize) -> *mut f32 {
        debug_assert!(row < self.rows && column < self.columns);
        self.at.wrapping_add(row * self.stride + column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole_and_have_nothing_in_common() {
        let mut matrix = vec![0.0; 5 * 7];
        let (upper, lower) = Block::new(&mut matrix, 7).split_rows(2);
        let ((a, b), (c, d)) = (upper.split_columns(3), lower.split_columns(7));
        assert_eq!([&a, &b, &c, &d].map(|x| (x.rows(), x.columns())), [(2, 3), (2, 4), (3, 7), (3, 0)]);
        for (mark, mut block) in [a, b, c, d].into_iter().enumerate() {
            let (rows, columns) = (block.rows(), block.columns());
            for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                // SAFETY: inside the block.
                unsafe { *block.pointer(row, column) += 1.0 + mark as f32 };
            }
        }
        for (at, value) in matrix.iter().enumerate() {
            let expected = match (at / 7, at % 7) {
                (0..2, 0..3) => 1.0,
                (0..2, _) => 2.0,
                _ => 3.0,
            };
            assert_eq!(*value, expected, "{at}");
        }
    }
}
