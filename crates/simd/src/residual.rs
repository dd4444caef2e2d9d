//! Residual-coded tokens, as they lie in a shard.
//!
//! A token is `(centroid + scale * level[code]) * inverse norm`, dimension by dimension, `code` being
//! 1, 2 or 4 bits. Codes are packed in *planes*: with `b` bits a code and `m = dim * b / 8` bytes a token,
//! dimension `p * m + j` sits in byte `j`, bits `p * b ..`. Expanding one plane of consecutive bytes yields
//! consecutive dimensions, for every bit width and every dimension that is a multiple of 8.
//!
//! Scale and inverse norm share 16 bits, the token's *factors*: the upper 6 choose one of [`SCALES`] scales, the lower
//! 10 are the inverse norm as `0.5 + n / 1024`, a decoded token being near unit length before it is brought there.

use crate::decode::{FineSteps, Steps};

/// Levels lie in `-MAX_LEVEL..=MAX_LEVEL`: with an i8 query, pairs of products then fit the saturating
/// 16-bit sums of AVX2 (`2 * 127 * (63 + 64) < 2^15`).
pub const MAX_LEVEL: i8 = 63;

/// Dimensions of a token at most.
pub const MAX_DIM: usize = 1024;

/// Added to a level to make it unsigned, as byte dot products want one side.
pub const LEVEL_OFFSET: i32 = 64;

/// Bits of a fine code.
pub const FINE_BITS: u32 = 4;

/// The fine code, were there one, that stands for 0.
pub const FINE_MIDDLE: f32 = 7.5;

/// Number of scales that a token may choose from.
pub const SCALES: usize = 64;

/// Bits of the inverse norm in a token's factors.
const NORM_BITS: u32 = 10;

/// Joins a scale's number and an inverse norm, which is brought into what can be said: 0.5 to 1.5.
///
/// # Panics
/// When there is no such scale.
pub fn pack_factors(scale: usize, inverse_norm: f32) -> u16 {
    assert!(scale < SCALES, "scale {scale}");
    let steps = ((inverse_norm - 0.5) * (1 << NORM_BITS) as f32).round().clamp(0.0, ((1 << NORM_BITS) - 1) as f32);
    (scale as u16) << NORM_BITS | steps as u16
}

/// The scale and the inverse norm of a token's factors.
#[inline]
pub fn unpack_factors(factors: u16, scales: &[f32; SCALES]) -> (f32, f32) {
    let steps = factors & ((1 << NORM_BITS) - 1);
    (scales[scale_number(factors)], 0.5 + f32::from(steps) * (1.0 / (1 << NORM_BITS) as f32))
}

/// The number of the scale in a token's factors, below [`SCALES`].
#[inline]
pub(crate) fn scale_number(factors: u16) -> usize {
    usize::from(factors >> NORM_BITS)
}

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
    let all = codes.iter().fold(0, |all, code| all | code);
    assert!(u32::from(all) < 1 << bits, "a code needs more than {bits} bits");
    packed.fill(0);
    for (p, chunk) in codes.chunks_exact(plane).enumerate() {
        for (byte, &code) in packed.iter_mut().zip(chunk) {
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
    /// Dimensions of a token, a multiple of 8, up to [`MAX_DIM`].
    pub dim: usize,
    /// `[16]`: the level of each code; entries from `2^bits` on are not read.
    pub levels: &'a [i8; 16],
    /// The scales that tokens choose from.
    pub scales: &'a [f32; SCALES],
    /// `[n]`: centroid of each token.
    pub centroids: &'a [u16],
    /// `[n]`: scale and inverse norm of each token ([`pack_factors`]).
    pub factors: &'a [u16],
    /// `[n, code_bytes(dim, bits)]`.
    pub codes: &'a [u8],
    /// `[n, code_bytes(dim, FINE_BITS)]`, or nothing: what the codes leave, in even steps.
    pub fine: &'a [u8],
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
        assert!(self.dim > 0 && self.dim <= MAX_DIM && self.dim.is_multiple_of(8), "dimension {}", self.dim);
        let n = self.len();
        assert_eq!(self.factors.len(), n, "factors");
        assert_eq!(self.codes.len(), n * code_bytes(self.dim, self.bits), "codes");
        let fine = n * code_bytes(self.dim, FINE_BITS);
        assert!(self.fine.is_empty() || self.fine.len() == fine, "fine codes");
    }

    /// The packed codes of token `t`.
    pub(crate) fn token_codes(&self, t: usize) -> &[u8] {
        let plane = code_bytes(self.dim, self.bits);
        &self.codes[t * plane..][..plane]
    }

    /// What the steps of token `t` are worth.
    pub(crate) fn steps(&self, t: usize, fine: &FineSteps, centroid_scales: &[f32]) -> Steps {
        let (scale, _) = unpack_factors(self.factors[t], self.scales);
        let centroid = centroid_scales[usize::from(self.centroids[t])];
        Steps { centroid, level: scale, fine: scale * fine.unit }
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

    #[test]
    fn factors_come_back() {
        let scales: [f32; SCALES] = std::array::from_fn(|i| i as f32);
        for (scale, norm) in [(0, 0.5), (63, 1.0), (17, 1.25), (1, 1.499)] {
            let (s, n) = unpack_factors(pack_factors(scale, norm), &scales);
            assert_eq!(s, scale as f32);
            assert!((n - norm).abs() <= 0.5 / 1024.0, "{n} and {norm}");
        }
        assert_eq!(unpack_factors(pack_factors(0, 9.0), &scales).1, 0.5 + 1023.0 / 1024.0);
    }

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
