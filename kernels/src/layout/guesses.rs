//! How a token's centroid counts in its outline, in halves.

use cubecl::prelude::Runtime;
use half::f16;
use latewood_simd::SCALES;

use crate::client::{Buffer, Client, GpuError};

/// Most that the byte of a centroid's score counts for, and half of what bytes tell apart.
pub(crate) const MOST_BYTE: f32 = 127.0;
pub(crate) const HALF_BYTE: f32 = 128.0;

/// Weights of bytes as they stand, as halves of that many 2^-24ths: see the kernel of outlines for planes.
#[derive(Debug, Clone)]
pub(crate) struct Guesses {
    /// `[SCALES, 2]`: weight and lean, each twice in a word.
    pub(crate) values: Buffer<u32>,
    /// What a guess is in units of, besides the row's length.
    pub(crate) unit: f32,
}

impl Guesses {
    /// Of centroids up to `reach` long.
    pub(crate) fn new<R: Runtime>(
        client: &Client<R>,
        reach: f32,
        weights: &[f32; SCALES],
        leans: &[f32; SCALES],
    ) -> Result<Self, GpuError> {
        let (values, unit) = in_halves(reach, weights, leans);
        Ok(Self { values: client.keep("weights", &values)?, unit })
    }
}

/// [`Guesses`] before they are copied to a device.
pub(crate) fn in_halves(reach: f32, weights: &[f32; SCALES], leans: &[f32; SCALES]) -> (Vec<u32>, f32) {
    // A byte is so many 2^-24ths.
    let whole = |weight: f32| f64::from(weight) * f64::from(reach / MOST_BYTE) * f64::from(1 << 24);
    let most = weights.iter().map(|&weight| whole(weight).abs()).fold(f64::MIN_POSITIVE, f64::max);
    let most_lean = leans.iter().map(|&lean| f64::from(lean).abs()).fold(0.0, f64::max);
    // Weights up to 2^15, and guesses below 2^14.
    let unit = (most / 32768.0).max(most_lean / 8192.0).log2().ceil().exp2();
    let twice = |x: f64| u32::from(f16::from_f64(x).to_bits()) * 0x1_0001;
    let values = weights.iter().zip(leans).flat_map(|(&weight, &lean)| {
        let weight = f16::from_f64(whole(weight) / unit).to_f64();
        [twice(weight), twice(f64::from(lean) / unit - weight * f64::from(HALF_BYTE) / f64::from(1 << 24))]
    });
    (values.collect(), unit as f32)
}
