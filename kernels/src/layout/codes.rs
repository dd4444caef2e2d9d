//! Rows that a device has coded.

use cubecl::prelude::Runtime;
use latewood_engine::CodedTokens;
use latewood_simd::{FINE_BITS, code_bytes};

use crate::client::{Buffer, Client, GpuError};

/// Coded rows in the memory of a device.
#[derive(Debug, Clone)]
pub struct Codes {
    pub(crate) dim: usize,
    pub(crate) bits: u32,
    /// `[n]`: the centroid in the lower 16 bits, the factors in the upper.
    pub(crate) outlines: Buffer<u32>,
    /// `[n, words]`
    pub(crate) codes: Buffer<u32>,
    /// `[n, fine words]`, if the codec has fine codes.
    pub(crate) fine: Option<Buffer<u32>>,
}

impl Codes {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.outlines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads them, and appends them to `out`.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn read<R: Runtime>(&self, client: &Client<R>, out: &mut CodedTokens) -> Result<(), GpuError> {
        let outlines = client.read(&self.outlines)?;
        out.centroids.extend(outlines.iter().map(|outline| (outline & 0xffff) as u16));
        out.factors.extend(outlines.iter().map(|outline| (outline >> 16) as u16));
        append_rows(&client.read(&self.codes)?, code_bytes(self.dim, self.bits), &mut out.codes);
        if let Some(fine) = &self.fine {
            append_rows(&client.read(fine)?, code_bytes(self.dim, FINE_BITS), &mut out.fine);
        }
        Ok(())
    }
}

/// Appends rows of whole words as rows of `bytes` bytes.
fn append_rows(words: &[u32], bytes: usize, out: &mut Vec<u8>) {
    out.reserve(words.len() * 4);
    for row in words.chunks_exact(bytes.div_ceil(4)) {
        let padded = row.iter().flat_map(|word| word.to_le_bytes());
        out.extend(padded.take(bytes));
    }
}
