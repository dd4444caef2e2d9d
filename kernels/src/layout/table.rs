//! The scores of all centroids for all query rows.

use super::{Codec, Queries, ensure};
use crate::client::{Buffer, GpuError};

/// `[blocks, c, LANES]`, in as many pieces as the device's largest allocation asks for.
#[derive(Debug, Clone)]
pub struct Table {
    centroids: usize,
    parts: Vec<TablePart>,
}

/// The blocks of a table that lie in one allocation.
#[derive(Debug, Clone)]
pub(crate) struct TablePart {
    pub(crate) values: Buffer<f32>,
    pub(crate) first_block: usize,
    pub(crate) blocks: usize,
}

impl Table {
    pub(crate) fn new(centroids: usize, parts: Vec<TablePart>) -> Self {
        Self { centroids, parts }
    }

    /// Checks that these are the scores of that codec's centroids for so many rows.
    pub(crate) fn check(&self, codec: &Codec, queries: &Queries) -> Result<(), GpuError> {
        let blocks: usize = self.parts.iter().map(|part| part.blocks).sum();
        ensure((self.centroids, blocks) == (codec.centroids(), queries.blocks()), || {
            format!("scores of {} centroids for {blocks} blocks of rows are of another codec or batch", self.centroids)
        })
    }

    pub(crate) fn parts(&self) -> &[TablePart] {
        &self.parts
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.values.bytes()).sum()
    }

    /// The pieces, each `[its blocks, c, LANES]`, for whoever wants the scores themselves.
    pub fn pieces(&self) -> impl Iterator<Item = &Buffer<f32>> {
        self.parts.iter().map(|part| &part.values)
    }
}
