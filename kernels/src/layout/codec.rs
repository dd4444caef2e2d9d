//! A codec on the device.

use cubecl::prelude::Runtime;
use latewood_simd::{LEVEL_OFFSET, SCALES};

use super::centroids::MAX_CENTROIDS;
use super::order::{code_words, pad_rows};
use super::{Guesses, check_dim, ensure};
use crate::client::{Buffer, Client, GpuError};

/// How tokens are coded, as the engine has it.
#[derive(Debug, Clone, Copy)]
pub struct CodecParts<'a> {
    /// Dimensions of a token, a multiple of 8.
    pub dim: usize,
    /// Bits a code: 1, 2 or 4.
    pub bits: u32,
    /// `[16]`: the level of each code.
    pub levels: &'a [i8; 16],
    /// The scales that tokens choose from.
    pub scales: &'a [f32; SCALES],
    /// `[c, dim]`: a byte stands for itself less 64.
    pub centroids: &'a [u8],
    /// `[c]`: what one step of a centroid's bytes is worth.
    pub centroid_scales: &'a [f32],
    /// For each scale, what a token's centroid counts in its outline: `weight * score + lean * length of the row`.
    pub weights: &'a [f32; SCALES],
    /// For each scale, what a token is taken to lean towards a row, in units of the row's length.
    pub leans: &'a [f32; SCALES],
}

/// A codec in the memory of a device.
#[derive(Debug, Clone)]
pub struct Codec {
    dim: usize,
    bits: u32,
    reach: f32,
    rows: Buffer<u32>,
    row_scales: Buffer<f32>,
    constants: Buffer<f32>,
    estimates: Buffer<f32>,
    guesses: Guesses,
}

impl Codec {
    /// Copies a codec to the device.
    ///
    /// # Errors
    /// When its parts disagree, or it is too large for the device.
    pub fn new<R: Runtime>(client: &Client<R>, parts: &CodecParts<'_>) -> Result<Self, GpuError> {
        check_dim(parts.dim)?;
        ensure(matches!(parts.bits, 1 | 2 | 4), || format!("{} bits a code", parts.bits))?;
        let count = parts.centroid_scales.len();
        ensure((1..=MAX_CENTROIDS).contains(&count), || format!("{count} centroids"))?;
        let bytes = parts.centroids.len();
        ensure(bytes == count * parts.dim, || format!("{bytes} bytes of {count} centroids"))?;
        let levels = parts.levels.iter().map(|&level| f32::from(level));
        let constants: Vec<f32> = levels.chain(parts.scales.iter().copied()).collect();
        let reach = reach(parts);
        Ok(Self {
            dim: parts.dim,
            bits: parts.bits,
            reach,
            rows: client.keep("centroids", &pad_rows(parts.centroids, parts.dim))?,
            row_scales: client.keep("centroid scales", parts.centroid_scales)?,
            constants: client.keep("levels and scales", &constants)?,
            estimates: client.keep("weights", &[*parts.weights, *parts.leans].concat())?,
            guesses: Guesses::new(client, reach, parts.weights, parts.leans)?,
        })
    }

    /// Dimensions of a token.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bits a code.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Number of centroids.
    pub fn centroids(&self) -> usize {
        self.row_scales.len()
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        let small = self.constants.bytes() + self.estimates.bytes() + self.guesses.values.bytes();
        self.rows.bytes() + self.row_scales.bytes() + small
    }

    /// Words that a token's codes take.
    pub(crate) fn words(&self) -> usize {
        code_words(self.dim, self.bits)
    }

    /// Length of the longest centroid, and more than 0.
    pub(crate) fn reach(&self) -> f32 {
        self.reach
    }

    /// `[c, dim / 4]`: the centroids' bytes.
    pub(crate) fn rows(&self) -> &Buffer<u32> {
        &self.rows
    }

    /// `[c]`
    pub(crate) fn row_scales(&self) -> &Buffer<f32> {
        &self.row_scales
    }

    /// `[16 + SCALES]`: levels, then scales.
    pub(crate) fn constants(&self) -> &Buffer<f32> {
        &self.constants
    }

    /// Weights and leans in halves.
    pub(crate) fn guesses(&self) -> &Guesses {
        &self.guesses
    }

    /// `[2, SCALES]`: weights, then leans.
    pub(crate) fn estimates(&self) -> &Buffer<f32> {
        &self.estimates
    }
}

/// Length of the longest centroid, and more than 0.
pub(crate) fn reach(parts: &CodecParts<'_>) -> f32 {
    let square = |&byte: &u8| (i32::from(byte) - LEVEL_OFFSET).pow(2);
    let length = |row: &[u8]| (row.iter().map(square).sum::<i32>() as f32).sqrt();
    let lengths = parts.centroids.chunks_exact(parts.dim).map(length);
    let scaled = lengths.zip(parts.centroid_scales).map(|(length, scale)| length * scale.abs());
    // Some millionths more, for what rounding adds.
    scaled.fold(f32::MIN_POSITIVE, f32::max) * 1.00001
}
