//! The tokens of a shard, or of a part of one, on the device.

use std::ops::Range;

use cubecl::prelude::Runtime;
use latewood_simd::code_bytes;

use super::order::{code_words, pad_rows};
use super::{Codec, ensure};
use crate::client::{Buffer, Client, GpuError, Limits};

/// Documents as they lie in a shard.
#[derive(Debug, Clone, Copy)]
pub struct ShardParts<'a> {
    /// `[n + 1]`, ascending: the tokens of document `i` are `offsets[i]..offsets[i + 1]`, less `offsets[0]`.
    pub offsets: &'a [u32],
    /// `[t]`: centroid of each token.
    pub centroids: &'a [u16],
    /// `[t]`: scale and inverse norm of each token.
    pub factors: &'a [u16],
    /// `[t, m]`: codes, packed in planes, `m` bytes a token.
    pub codes: &'a [u8],
}

/// Documents in the memory of a device.
#[derive(Debug, Clone)]
pub struct Shard {
    dim: usize,
    bits: u32,
    /// Centroids that tokens may name: those of the codec it was made with.
    centroids: usize,
    offsets: Buffer<u32>,
    outlines: Buffer<u32>,
    codes: Buffer<u32>,
}

impl Shard {
    /// Copies documents to the device.
    ///
    /// # Errors
    /// When their parts disagree with each other or with the codec, or are too large for the device: then see
    /// [`fitting_parts`].
    pub fn new<R: Runtime>(client: &Client<R>, codec: &Codec, parts: &ShardParts<'_>) -> Result<Self, GpuError> {
        let (tokens, bytes) = (parts.centroids.len(), code_bytes(codec.dim(), codec.bits()));
        check_parts(parts, codec, bytes)?;
        let largest = (tokens * code_words(codec.dim(), codec.bits()) * 4) as u64;
        client.limits().check_allocation("codes", largest)?;
        let first = parts.offsets[0];
        let offsets: Vec<u32> = parts.offsets.iter().map(|offset| offset - first).collect();
        Ok(Self {
            dim: codec.dim(),
            bits: codec.bits(),
            centroids: codec.centroids(),
            offsets: client.keep("offsets", &offsets)?,
            outlines: client.keep("outlines", &outlines(parts.centroids, parts.factors))?,
            codes: client.keep("codes", &pad_rows(parts.codes, bytes))?,
        })
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no document.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.outlines.len()
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.offsets.bytes() + self.outlines.bytes() + self.codes.bytes()
    }

    /// Checks that `codec` has coded these documents, as far as their shape tells, and has all centroids that they name.
    pub(crate) fn check_codec(&self, codec: &Codec) -> Result<(), GpuError> {
        ensure(self.centroids <= codec.centroids(), || {
            format!("tokens of {} centroids, and a codec of {}", self.centroids, codec.centroids())
        })?;
        ensure((self.dim, self.bits) == (codec.dim(), codec.bits()), || {
            let (dim, bits) = (codec.dim(), codec.bits());
            format!("tokens of {} dimensions, {} bits, and a codec of {dim} and {bits}", self.dim, self.bits)
        })
    }

    /// `[n + 1]`
    pub(crate) fn offsets(&self) -> &Buffer<u32> {
        &self.offsets
    }

    /// `[t]`: the centroid in the lower 16 bits, the factors in the upper.
    pub(crate) fn outlines(&self) -> &Buffer<u32> {
        &self.outlines
    }

    /// `[t, words]`
    pub(crate) fn codes(&self) -> &Buffer<u32> {
        &self.codes
    }
}

/// A centroid in the lower 16 bits, factors in the upper, of each token.
pub(crate) fn outlines(centroids: &[u16], factors: &[u16]) -> Vec<u32> {
    centroids.iter().zip(factors).map(|(&c, &f)| u32::from(c) | u32::from(f) << 16).collect()
}

fn check_parts(parts: &ShardParts<'_>, codec: &Codec, bytes: usize) -> Result<(), GpuError> {
    let tokens = parts.centroids.len();
    let (first, last) = match parts.offsets {
        [first, .., last] => (*first, *last),
        [only] => (*only, *only),
        [] => return Err(GpuError::Mismatch("no offsets".into())),
    };
    let ascending = parts.offsets.is_sorted() && (last - first) as usize == tokens;
    ensure(ascending, || format!("offsets {first}..{last} of {tokens} tokens"))?;
    ensure(parts.factors.len() == tokens, || format!("{} factors of {tokens} tokens", parts.factors.len()))?;
    ensure(parts.codes.len() == tokens * bytes, || format!("{} bytes of {tokens} tokens", parts.codes.len()))?;
    let outside = parts.centroids.iter().find(|&&c| usize::from(c) >= codec.centroids());
    ensure(outside.is_none(), || format!("centroid {outside:?} of {}", codec.centroids()))
}

/// Cuts the documents of a shard, whose tokens end at `offsets` `[n + 1]`, into runs that each fit the device's largest
/// allocation, as long as they can be. A document that does not fit by itself is a run of its own, which [`Shard::new`]
/// refuses.
pub fn fitting_parts(limits: &Limits, offsets: &[u32], dim: usize, bits: u32) -> Vec<Range<usize>> {
    let most = limits.pieces(code_words(dim, bits)) as u32;
    let documents = offsets.len().saturating_sub(1);
    let (mut parts, mut start) = (Vec::new(), 0);
    while start < documents {
        let fits = offsets[start + 1..].partition_point(|end| end - offsets[start] <= most);
        let end = start + fits.max(1);
        parts.push(start..end);
        start = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_and_leave_nothing_out() {
        let limits = Limits { allocation: 640, cubes: [1; 3], units: 1, shared: 0, buffers: 0 };
        // 64 bytes a token: ten fit.
        let parts = fitting_parts(&limits, &[5, 8, 15, 16, 40, 41, 51], 128, 4);
        assert_eq!(parts, [0..2, 2..3, 3..4, 4..5, 5..6]);
        assert!(fitting_parts(&limits, &[0], 128, 4).is_empty());
    }
}
