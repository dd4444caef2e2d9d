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

/// Rows `[q, d]` quantised to i8, one scale a row, laid out `[d / 4, lanes, 4]` for byte dot products.
///
/// `row[i] ~ scale * value[i]` with `value` in -127..=127.
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
    /// Quantises `rows`, `[q, dim]` row-major, `dim` a multiple of 4.
    ///
    /// # Panics
    /// When `dim` is 0, no multiple of 4, or does not divide the number of values.
    pub fn new(rows: &[f32], dim: usize) -> Self {
        assert!(dim > 0 && dim.is_multiple_of(4), "dimension {dim} is no multiple of 4");
        assert!(rows.len().is_multiple_of(dim), "{} values in rows of {dim}", rows.len());
        let count = rows.len() / dim;
        let lanes = count.next_multiple_of(LANES);
        let mut query = Self {
            rows: count,
            dim,
            lanes,
            values: vec![0; dim * lanes],
            scales: vec![0.0; lanes],
            sums: vec![0; lanes],
        };
        for (lane, row) in rows.chunks_exact(dim).enumerate() {
            let largest = row.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            if largest == 0.0 {
                continue;
            }
            let scale = largest / 127.0;
            query.scales[lane] = scale;
            for (d, &x) in row.iter().enumerate() {
                let value = (x / scale).round().clamp(-127.0, 127.0) as i8;
                query.values[(d / 4) * lanes * 4 + lane * 4 + d % 4] = value;
                query.sums[lane] += i32::from(value);
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

    /// `[dim / 4, lanes, 4]`.
    pub(crate) fn values(&self) -> &[i8] {
        &self.values
    }

    /// `[lanes]`: what one of a row's integers stands for; 0 for rows of zeros and in the padding.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// `[lanes]`: the sum of a row's values, which removes the offset that makes codes unsigned.
    pub(crate) fn sums(&self) -> &[i32] {
        &self.sums
    }
}
