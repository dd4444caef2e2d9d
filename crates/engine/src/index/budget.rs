//! What a build holds in memory.
//!
//! Three things grow with what they are given: the sample that a codec is trained on, the rows that are coded together,
//! and a shard, which is checked as a whole when it has been written. The sample is gone before the others come: it gets
//! three eighths of a budget, rows get one and a shard three. The rest is the program's own.

use latewood_simd::{FINE_BITS, code_bytes};

use super::Manifest;
use crate::error::{Error, Result};

/// The least budget.
const LEAST: usize = 64 << 20;
/// What a shard being written or checked takes of a token besides its codes: centroid, factors and posting, and the
/// last once more.
const TOKEN_BYTES: usize = 16;

/// The sizes of a build.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Bytes of the rows that a codec is trained on.
    pub(super) sample_bytes: usize,
    /// Tokens coded at a time.
    pub(super) code_tokens: usize,
    /// A commit starts another shard at this many tokens.
    pub(super) shard_tokens: usize,
    /// A merge makes no shard of more tokens.
    pub(super) merged_tokens: usize,
}

impl Budget {
    /// Unless something else is said.
    pub(super) const USUAL: Self =
        Self { sample_bytes: 256 << 20, code_tokens: 1 << 15, shard_tokens: 4 << 20, merged_tokens: 8 << 20 };

    /// To stay within `bytes`, where the usual sizes take more.
    ///
    /// # Errors
    /// When that is too little.
    pub(super) fn within(bytes: usize, manifest: &Manifest) -> Result<Self> {
        if bytes < LEAST {
            return Err(Error::BadParameter {
                name: "memory",
                value: format!("{bytes} bytes"),
                expected: "a build needs 64 MiB (67108864 bytes) at least",
            });
        }
        let (dim, usual) = (manifest.dim, Self::USUAL);
        let fine = if manifest.fine { code_bytes(dim, FINE_BITS) } else { 0 };
        let shard_tokens = bytes / 8 * 3 / (code_bytes(dim, manifest.bits) + fine + TOKEN_BYTES);
        // Rows as they came and turned, and their codes.
        let code_tokens = bytes / 8 / (2 * dim * size_of::<f32>() + code_bytes(dim, manifest.bits) + fine);
        Ok(Self {
            sample_bytes: usual.sample_bytes.min(bytes / 8 * 3),
            code_tokens: usual.code_tokens.min(code_tokens),
            shard_tokens: usual.shard_tokens.min(shard_tokens),
            // What is merged is in memory as well as what is made of it.
            merged_tokens: usual.merged_tokens.min(shard_tokens),
        })
    }
}
