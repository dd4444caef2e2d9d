//! Query layouts: rows in the lanes.

/// Query rows are padded to a multiple of this many lanes.
pub const LANES: usize = 8;

/// Rows `[q, d]` transposed for the f32 kernels: `[d, lanes]`, zero in the padding lanes.
#[derive(Debug, Clone)]
pub struct QueryF32 {
    rows: usize,
    dim: usize,
    lanes: usize,
    values: Vec<f32>,
}

impl QueryF32 {
    /// Transposes `rows`, `[q, dim]` row-major.
    ///
    /// # Panics
    /// When `dim` is 0 or does not divide the number of values.
    pub fn new(rows: &[f32], dim: usize) -> Self {
        let mut query = Self { rows: 0, dim, lanes: 0, values: Vec::new() };
        query.refill(rows);
        query
    }

    /// Replaces the rows, keeping the allocation: for kernels that stream many blocks of rows.
    ///
    /// # Panics
    /// As [`QueryF32::new`].
    pub fn refill(&mut self, rows: &[f32]) {
        assert!(self.dim > 0 && rows.len().is_multiple_of(self.dim), "{} values in rows of {}", rows.len(), self.dim);
        self.rows = rows.len() / self.dim;
        self.lanes = self.rows.next_multiple_of(LANES);
        self.values.clear();
        self.values.resize(self.dim * self.lanes, 0.0);
        for (lane, row) in rows.chunks_exact(self.dim).enumerate() {
            for (d, &x) in row.iter().enumerate() {
                self.values[d * self.lanes + lane] = x;
            }
        }
    }

    /// Number of rows, without padding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of lanes: the rows rounded up to a multiple of [`LANES`].
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// `[dim, lanes]`.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }
}

/// Rows `[n, d]` rounded to i8, one scale a row: `row[i] ~ scale * value[i]` with `value` in -127..=127.
#[derive(Debug, Clone)]
pub struct RowsI8 {
    dim: usize,
    /// `[n, d]`
    values: Vec<i8>,
    /// `[n]`
    scales: Vec<f32>,
    /// `[n]`: the sum of a row's values.
    sums: Vec<i32>,
}

impl RowsI8 {
    /// Rounds `rows`, `[n, dim]` row-major, `dim` a multiple of 4.
    ///
    /// # Panics
    /// When `dim` is 0, no multiple of 4, or does not divide the number of values.
    pub fn new(rows: &[f32], dim: usize) -> Self {
        assert!(dim > 0 && dim.is_multiple_of(4), "dimension {dim} is no multiple of 4");
        assert!(rows.len().is_multiple_of(dim), "{} values in rows of {dim}", rows.len());
        let mut out = Self { dim, values: vec![0; rows.len()], scales: Vec::new(), sums: Vec::new() };
        for (row, values) in rows.chunks_exact(dim).zip(out.values.chunks_exact_mut(dim)) {
            let largest = row.iter().fold(0.0, |a, x| if x.abs() > a { x.abs() } else { a });
            let inverse = 127.0 / largest;
            // A row of zeros, or one so short that it has no inverse: all its values are 0.
            let inverse = if inverse.is_finite() { inverse } else { 0.0 };
            let mut sum = 0;
            for (value, x) in values.iter_mut().zip(row) {
                // Far from 0 floats are whole numbers: adding rounds, and the low bits are the number.
                let rounded = (x * inverse + ROUND).to_bits() as i8;
                *value = rounded;
                sum += i32::from(rounded);
            }
            out.scales.push(largest / 127.0);
            out.sums.push(sum);
        }
        out
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }
}

/// `1.5 * 2^23`: f32 of this size have steps of 1.
const ROUND: f32 = 12_582_912.0;

/// Rows as i8, laid out `[d / 4, lanes, 4]` for byte dot products.
#[derive(Debug, Clone)]
pub struct QueryI8 {
    rows: usize,
    dim: usize,
    lanes: usize,
    values: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl QueryI8 {
    /// Rounds `rows`, `[q, dim]` row-major, `dim` a multiple of 4.
    ///
    /// # Panics
    /// As [`RowsI8::new`].
    pub fn new(rows: &[f32], dim: usize) -> Self {
        let rows = RowsI8::new(rows, dim);
        let mut query = Self::empty(dim);
        query.refill(&rows, 0..rows.len());
        query
    }

    /// Without rows, for [`QueryI8::refill`].
    pub fn empty(dim: usize) -> Self {
        Self { rows: 0, dim, lanes: 0, values: Vec::new(), scales: Vec::new(), sums: Vec::new() }
    }

    /// Replaces the rows by those of `rows` at the positions `picked`, keeping the allocation.
    ///
    /// # Panics
    /// When the dimensions disagree or a position is outside.
    pub fn refill(&mut self, rows: &RowsI8, picked: impl ExactSizeIterator<Item = usize>) {
        assert_eq!(self.dim, rows.dim, "one dimension");
        self.rows = picked.len();
        self.lanes = self.rows.next_multiple_of(LANES);
        self.values.resize(self.dim * self.lanes, 0);
        self.scales.clear();
        self.scales.resize(self.lanes, 0.0);
        self.sums.clear();
        self.sums.resize(self.lanes, 0);
        let (groups, _) = self.values.as_chunks_mut::<4>();
        for (lane, row) in picked.enumerate() {
            self.scales[lane] = rows.scales[row];
            self.sums[lane] = rows.sums[row];
            let (row, _) = rows.values[row * self.dim..][..self.dim].as_chunks::<4>();
            for (d, group) in row.iter().enumerate() {
                groups[d * self.lanes + lane] = *group;
            }
        }
        for lane in self.rows..self.lanes {
            (0..self.dim / 4).for_each(|d| groups[d * self.lanes + lane] = [0; 4]);
        }
    }

    /// Number of rows, without padding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of lanes: the rows rounded up to a multiple of [`LANES`].
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// `[dim / 4, lanes, 4]`.
    pub(crate) fn values(&self) -> &[i8] {
        &self.values
    }

    /// `[lanes]`: what one of a row's integers stands for; 0 for rows of zeros and in the padding.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// `[lanes]`: the length of a row, in units of its scale.
    pub fn lengths(&self) -> Vec<f32> {
        let mut squares = vec![0i32; self.lanes];
        for group in self.values.chunks_exact(4 * self.lanes) {
            for (square, values) in squares.iter_mut().zip(group.chunks_exact(4)) {
                *square += values.iter().map(|&x| i32::from(x) * i32::from(x)).sum::<i32>();
            }
        }
        squares.into_iter().map(|square| (square as f32).sqrt()).collect()
    }

    /// `[lanes]`: the sum of a row's values, which removes the offset that makes codes unsigned.
    pub(crate) fn sums(&self) -> &[i32] {
        &self.sums
    }
}

/// What a row of 16-bit values has as its length when its vector has the length 1: products of two rows then fit 32 bits.
pub(crate) const WORD_ONE: f32 = 16384.0;

/// Rows as i16, laid out `[d / 2, lanes, 2]` for dot products of 16-bit values.
#[derive(Debug, Clone)]
pub struct QueryI16 {
    rows: usize,
    dim: usize,
    lanes: usize,
    values: Vec<i16>,
    scales: Vec<f32>,
}

impl QueryI16 {
    /// Rounds `rows`, `[q, dim]` row-major, `dim` a multiple of 2.
    ///
    /// # Panics
    /// When `dim` is 0, odd, or does not divide the number of values.
    pub fn new(rows: &[f32], dim: usize) -> Self {
        assert!(dim > 0 && dim.is_multiple_of(2), "dimension {dim} is odd");
        assert!(rows.len().is_multiple_of(dim), "{} values in rows of {dim}", rows.len());
        let count = rows.len() / dim;
        let lanes = count.next_multiple_of(LANES);
        let mut query = Self { rows: count, dim, lanes, values: vec![0; dim * lanes], scales: vec![0.0; lanes] };
        for (lane, row) in rows.chunks_exact(dim).enumerate() {
            // Rows may weigh anything: squares of f32 fit f64.
            let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            let inverse = if norm > 0.0 { f64::from(i16::MAX) / norm } else { 0.0 };
            query.scales[lane] = (norm / f64::from(i16::MAX)) as f32;
            for (d, &x) in row.iter().enumerate() {
                query.values[(d / 2 * lanes + lane) * 2 + d % 2] = (f64::from(x) * inverse).round() as i16;
            }
        }
        query
    }

    /// Number of rows, without padding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of lanes: the rows rounded up to a multiple of [`LANES`].
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// What the integer dot products `dots` `[lanes]` of decoded tokens with the rows stand for, summed.
    pub fn sum(&self, dots: &[i32]) -> f32 {
        dots.iter().zip(&self.scales).map(|(&dot, scale)| dot as f32 / WORD_ONE * scale).sum()
    }

    /// `[dim / 2, lanes, 2]`.
    pub(crate) fn values(&self) -> &[i16] {
        &self.values
    }
}
