//! A batch of queries on the device: their rows end to end in the lanes.

use cubecl::prelude::Runtime;

use super::order::{coded_order, in_lanes};
use super::{Codec, Fragments, check_dim, ensure};
use crate::client::{Buffer, Client, GpuError};
use crate::cube::LANES;

/// Rows of a query at most.
pub const MAX_ROWS: usize = 4096;

/// Queries in the memory of a device.
///
/// A block of [`LANES`] lanes is `[d, LANES]`, the last one padded with rows of zeros, which count for no query.
#[derive(Debug, Clone)]
pub struct Queries {
    dim: usize,
    bits: Option<u32>,
    len: usize,
    rows: usize,
    values: Buffer<f32>,
    coded: Option<Buffer<f32>>,
    fragments: Option<Fragments>,
    lengths: Buffer<f32>,
    plan: Buffer<u32>,
}

impl Queries {
    /// Queries for tokens that are not compressed, each `[rows, dim]`.
    ///
    /// # Errors
    /// When there is no query, one has no row or more than [`MAX_ROWS`], or they are too many for the device.
    pub fn new<R: Runtime>(client: &Client<R>, dim: usize, queries: &[&[f32]]) -> Result<Self, GpuError> {
        check_dim(dim)?;
        let starts = starts(dim, queries)?;
        let values = queries.concat();
        let rows = values.len() / dim;
        let length = |row: &[f32]| row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32;
        let mut lengths: Vec<f32> = values.chunks_exact(dim).map(length).collect();
        lengths.resize(rows.next_multiple_of(LANES), 0.0);
        let order: Vec<Option<usize>> = (0..dim).map(Some).collect();
        Ok(Self {
            dim,
            bits: None,
            len: queries.len(),
            rows,
            values: client.upload("queries", &in_lanes(&values, dim, &order))?,
            coded: None,
            fragments: None,
            lengths: client.upload("queries", &lengths)?,
            plan: client.upload("queries", &plan(starts))?,
        })
    }

    /// Queries for the tokens of `codec`, each `[rows, dim]` and rotated into the codec's space.
    ///
    /// # Errors
    /// As [`Queries::new`].
    pub fn rotated<R: Runtime>(client: &Client<R>, codec: &Codec, queries: &[&[f32]]) -> Result<Self, GpuError> {
        let plain = Self::new(client, codec.dim(), queries)?;
        let order = coded_order(codec.dim(), codec.bits());
        let rows = queries.concat();
        let coded = client.upload("queries", &in_lanes(&rows, codec.dim(), &order))?;
        let used = client.matrix_units().is_ok();
        let fragments = used.then(|| Fragments::new(client, codec, &rows)).transpose()?;
        Ok(Self { bits: Some(codec.bits()), coded: Some(coded), fragments, ..plain })
    }

    /// Number of queries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no query: never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of rows of all queries.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of blocks of [`LANES`] lanes.
    pub fn blocks(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// `[blocks, dim, LANES]`
    pub(crate) fn values(&self) -> &Buffer<f32> {
        &self.values
    }

    /// `[blocks, codes of a token's words, LANES]`, the dimensions in the order of the codes.
    pub(crate) fn coded(&self, codec: &Codec) -> Result<&Buffer<f32>, GpuError> {
        ensure((self.dim, self.bits) == (codec.dim(), Some(codec.bits())), || {
            format!("the queries were not arranged for {} dimensions of {} bits", codec.dim(), codec.bits())
        })?;
        self.coded.as_ref().ok_or_else(|| GpuError::Mismatch("the queries were not arranged for codes".into()))
    }

    /// The rows as matrix units take them, if the client they were made with uses such.
    pub(crate) fn fragments(&self) -> Option<&Fragments> {
        self.fragments.as_ref()
    }

    /// `[lanes]`: the length of each row.
    pub(crate) fn lengths(&self) -> &Buffer<f32> {
        &self.lengths
    }

    /// `[queries + 1]`: the lane at which each query starts, and the one after the last; then `[blocks]`: the first
    /// query that has a row in the block.
    pub(crate) fn plan(&self) -> &Buffer<u32> {
        &self.plan
    }
}

/// The row at which each query starts, and the number of rows.
fn starts(dim: usize, queries: &[&[f32]]) -> Result<Vec<u32>, GpuError> {
    ensure(!queries.is_empty(), || "no query".into())?;
    let mut starts = vec![0];
    let mut rows = 0;
    for query in queries {
        let count = query.len() / dim;
        let right = query.len().is_multiple_of(dim) && (1..=MAX_ROWS).contains(&count);
        ensure(right, || format!("a query of {} values: 1 to {MAX_ROWS} rows of {dim} are needed", query.len()))?;
        rows += count as u32;
        starts.push(rows);
    }
    Ok(starts)
}

/// What [`Queries::plan`] holds of queries that start at those lanes.
pub(crate) fn plan(starts: Vec<u32>) -> Vec<u32> {
    let rows = starts[starts.len() - 1];
    let first_of = |block: u32| starts.partition_point(|&start| start <= block * LANES as u32) as u32 - 1;
    let firsts: Vec<u32> = (0..rows.div_ceil(LANES as u32)).map(first_of).collect();
    [starts, firsts].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_know_their_first_query() {
        assert_eq!(plan(vec![0, 10, 32, 33, 100]), [0, 10, 32, 33, 100, 0, 2, 3, 3]);
        assert_eq!(plan(vec![0, 1]), [0, 1, 0]);
    }

    #[test]
    fn rows_go_into_lanes() {
        let rows: Vec<f32> = (0..33 * 8).map(|x| x as f32).collect();
        let out = in_lanes(&rows, 8, &[Some(3), None, Some(0)]);
        assert_eq!(out.len(), 2 * 3 * LANES);
        assert_eq!((out[0], out[1], out[LANES], out[2 * LANES + 1]), (3.0, 11.0, 0.0, 8.0));
        assert_eq!((out[3 * LANES], out[3 * LANES + 1]), (32.0 * 8.0 + 3.0, 0.0));
    }
}
