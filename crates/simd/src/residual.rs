//! Residual-coded tokens, as they lie in a shard.
//!
//! A token is `(centroid + scale * level[code]) * inverse norm`, dimension by dimension, `code` being
//! 1, 2 or 4 bits. Codes are packed in *planes*: with `b` bits a code and `m = dim * b / 8` bytes a token,
//! dimension `p * m + j` sits in byte `j`, bits `p * b ..`. Expanding one plane of consecutive bytes yields
//! consecutive dimensions, for every bit width and every dimension that is a multiple of 8.

use half::f16;

/// Levels lie in `-MAX_LEVEL..=MAX_LEVEL`: with an i8 query, pairs of products then fit the saturating
/// 16-bit sums of AVX2 (`2 * 127 * (63 + 64) < 2^15`).
pub const MAX_LEVEL: i8 = 63;

/// Added to a level to make it unsigned, as byte dot products want one side.
pub(crate) const LEVEL_OFFSET: i32 = 64;

/// Bytes that `dim` codes of `bits` bits take.
pub const fn code_bytes(dim: usize, bits: u32) -> usize {
    dim * bits as usize / 8
}

/// Packs one token's codes, `[dim]`, into `[code_bytes(dim, bits)]`.
///
/// # Panics
/// When the lengths disagree or a code needs more than `bits` bits.
pub fn pack_codes(codes: &[u8], bits: u32, packed: &mut [u8]) {
    let plane = code_bytes(codes.len(), bits);
    assert_eq!(packed.len(), plane, "bytes for {} codes of {bits} bits", codes.len());
    packed.fill(0);
    for (p, chunk) in codes.chunks_exact(plane).enumerate() {
        for (byte, &code) in packed.iter_mut().zip(chunk) {
            assert!(u32::from(code) < 1 << bits, "code {code} in {bits} bits");
            *byte |= code << (p as u32 * bits);
        }
    }
}

/// The reverse of [`pack_codes`].
///
/// # Panics
/// When the lengths disagree.
pub fn unpack_codes(packed: &[u8], bits: u32, codes: &mut [u8]) {
    let plane = code_bytes(codes.len(), bits);
    assert_eq!(packed.len(), plane, "bytes for {} codes of {bits} bits", codes.len());
    let mask = ((1u32 << bits) - 1) as u8;
    for (p, chunk) in codes.chunks_exact_mut(plane).enumerate() {
        for (code, &byte) in chunk.iter_mut().zip(packed) {
            *code = byte >> (p as u32 * bits) & mask;
        }
    }
}

/// A run of tokens, all of one document, borrowed from a shard.
#[derive(Debug, Clone, Copy)]
pub struct ResidualTokens<'a> {
    /// Bits a code: 1, 2 or 4.
    pub bits: u32,
    /// Dimensions of a token, a multiple of 8.
    pub dim: usize,
    /// `[16]`: the level of each code; entries from `2^bits` on are not read.
    pub levels: &'a [i8; 16],
    /// `[n]`: centroid of each token.
    pub centroids: &'a [u32],
    /// `[n]`: scale of each token's residual.
    pub scales: &'a [f16],
    /// `[n]`: 1 / norm of each decoded token.
    pub inverse_norms: &'a [f16],
    /// `[n, code_bytes(dim, bits)]`.
    pub codes: &'a [u8],
}

impl ResidualTokens<'_> {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.centroids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.centroids.is_empty()
    }

    pub(crate) fn check(&self) {
        assert!(matches!(self.bits, 1 | 2 | 4), "{} bits a code", self.bits);
        assert!(self.dim > 0 && self.dim.is_multiple_of(8), "dimension {}", self.dim);
        let n = self.len();
        assert_eq!(self.scales.len(), n, "scales");
        assert_eq!(self.inverse_norms.len(), n, "inverse norms");
        assert_eq!(self.codes.len(), n * code_bytes(self.dim, self.bits), "codes");
    }

    /// The unsigned levels, as byte kernels look them up: one entry a code.
    pub(crate) fn unsigned_levels(&self) -> [u8; 16] {
        self.levels.map(|level| {
            assert!((-MAX_LEVEL..=MAX_LEVEL).contains(&level), "level {level}");
            (i32::from(level) + LEVEL_OFFSET) as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packing_round_trips(bits in prop::sample::select(vec![1u32, 2, 4]), eighths in 1usize..40, seed: u64) {
            let mut state = seed | 1;
            let codes: Vec<u8> = (0..eighths * 8).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as u8 & ((1 << bits) - 1) as u8
            }).collect();
            let mut packed = vec![0xff; code_bytes(codes.len(), bits)];
            pack_codes(&codes, bits, &mut packed);
            let mut back = vec![0xff; codes.len()];
            unpack_codes(&packed, bits, &mut back);
            prop_assert_eq!(codes, back);
        }
    }
}
