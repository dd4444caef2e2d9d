//! Rows that many others are compared with, on the device: centroids, or the rows of a rotation.

use cubecl::prelude::Runtime;

use super::order::in_lanes;
use super::{Halves, check_dim, ensure};
use crate::client::{Buffer, Client, GpuError};
use crate::cube::LANES;

/// Most centroids that tokens of 16 bits can name.
pub(super) const MAX_CENTROIDS: usize = 1 << 16;

/// Centroids in the lanes: blocks `[dim, LANES]`, in as many pieces as the device's largest allocation asks for. The
/// last centroid is repeated up to the end of its block: of equals the first is the nearest, so that none of these ever
/// is.
#[derive(Debug, Clone)]
pub struct Centroids {
    dim: usize,
    count: usize,
    parts: Vec<CentroidPart>,
    /// None where the client they were made with uses no matrix units, or these take no such rows.
    halves: Vec<Halves>,
}

/// The blocks that lie in one allocation.
#[derive(Debug, Clone)]
pub(crate) struct CentroidPart {
    /// `[blocks, dim, LANES]`
    pub(crate) values: Buffer<f32>,
    /// The first centroid.
    pub(crate) first: usize,
    pub(crate) blocks: usize,
}

impl Centroids {
    /// Copies `rows` `[c, dim]` to the device.
    ///
    /// # Errors
    /// When there are none or more than 65,536, or one block does not fit an allocation.
    pub fn new<R: Runtime>(client: &Client<R>, dim: usize, rows: &[f32]) -> Result<Self, GpuError> {
        let lanes = Self::in_lanes(client, dim, rows)?;
        let halves = if client.matrix_units().is_ok() { Halves::new(client, rows, dim)? } else { Vec::new() };
        Ok(Self { halves, ..lanes })
    }

    /// The same, of which none is to be the nearest.
    pub(super) fn in_lanes<R: Runtime>(client: &Client<R>, dim: usize, rows: &[f32]) -> Result<Self, GpuError> {
        check_dim(dim)?;
        let count = rows.len() / dim;
        let right = rows.len().is_multiple_of(dim) && (1..=MAX_CENTROIDS).contains(&count);
        ensure(right, || format!("{} values of centroids of {dim} dimensions", rows.len()))?;
        // One at least: what does not fit then says so.
        let at_once = client.limits().pieces(dim * LANES).max(1) * LANES;
        let order: Vec<Option<usize>> = (0..dim).map(Some).collect();
        let mut parts = Vec::new();
        for (part, own) in rows.chunks(at_once * dim).enumerate() {
            let (whole, rest) = own.split_at(own.len() / (LANES * dim) * LANES * dim);
            let mut values = in_lanes(whole, dim, &order);
            if !rest.is_empty() {
                let mut rest = rest.to_vec();
                while rest.len() < LANES * dim {
                    rest.extend_from_within(rest.len() - dim..);
                }
                values.extend(in_lanes(&rest, dim, &order));
            }
            let blocks = values.len() / (LANES * dim);
            let values = client.upload("centroids", &values)?;
            parts.push(CentroidPart { values, first: part * at_once, blocks });
        }
        Ok(Self { dim, count, parts, halves: Vec::new() })
    }

    /// Values of a centroid.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of centroids.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none: never.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        let parts = self.parts.iter().map(|part| part.values.bytes());
        parts.chain(self.halves.iter().map(|part| part.values.bytes())).sum()
    }

    pub(crate) fn parts(&self) -> &[CentroidPart] {
        &self.parts
    }

    /// As matrix units take them.
    pub(crate) fn halves(&self) -> &[Halves] {
        &self.halves
    }

    /// Checks that `len` values are rows of the centroids' dimension; how many.
    pub(crate) fn rows_of(&self, len: usize) -> Result<usize, GpuError> {
        ensure(len.is_multiple_of(self.dim), || format!("{len} values are no rows of {} dimensions", self.dim))?;
        Ok(len / self.dim)
    }
}
