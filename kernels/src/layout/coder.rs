//! What coding takes, on the device.

use cubecl::prelude::Runtime;
use latewood_simd::{FINE_BITS, FineSteps, LEVEL_OFFSET};

use super::order::code_words;
use super::{Centroids, Codec, CodecParts, ensure};
use crate::client::{Buffer, Client, GpuError};

/// A codec, and what it needs besides to code rows.
#[derive(Debug, Clone, Copy)]
pub struct CoderParts<'a> {
    /// How tokens are coded.
    pub codec: CodecParts<'a>,
    /// `[d, d]`: row `i` gives dimension `i` of a rotated row.
    pub rotation: &'a [f32],
    /// A token's scale is first guessed as the root mean square of its residual times this.
    pub scale_per_rms: f32,
    /// The steps of fine codes, if tokens get any.
    pub fine: Option<&'a FineSteps>,
}

/// What codes rows, in the memory of a device.
#[derive(Debug, Clone)]
pub struct Coder {
    codec: Codec,
    rotation: Centroids,
    centroids: Centroids,
    constants: Buffer<f32>,
    scale_per_rms: f32,
    fine: bool,
}

impl Coder {
    /// Copies to the device what `codec`, which was made of `parts.codec`, does not hold of `parts`.
    ///
    /// # Errors
    /// When the parts disagree, or are too large for the device.
    pub fn new<R: Runtime>(client: &Client<R>, codec: &Codec, parts: &CoderParts<'_>) -> Result<Self, GpuError> {
        let (dim, own) = (codec.dim(), &parts.codec);
        let same = (own.dim, own.bits, own.centroid_scales.len()) == (dim, codec.bits(), codec.centroids());
        ensure(same && own.centroids.len() == codec.centroids() * dim, || "the parts of another codec".into())?;
        ensure(parts.rotation.len() == dim * dim, || format!("a rotation of {} values", parts.rotation.len()))?;
        let rows = own.centroids.chunks_exact(dim).zip(own.centroid_scales);
        let value = |&byte: &u8, scale: f32| (i32::from(byte) - LEVEL_OFFSET) as f32 * scale;
        let centroids: Vec<f32> =
            rows.flat_map(|(row, &scale)| row.iter().map(move |byte| value(byte, scale))).collect();
        let steps = parts.fine.map_or([0.0; 16], |fine| fine.steps.map(|step| f32::from(step) * fine.unit));
        let levels = own.levels.iter().map(|&level| f32::from(level));
        let constants: Vec<f32> = levels.chain(own.scales.iter().copied()).chain(steps).collect();
        Ok(Self {
            codec: codec.clone(),
            rotation: Centroids::in_lanes(client, dim, parts.rotation)?,
            centroids: Centroids::new(client, dim, &centroids)?,
            constants: client.upload("levels and scales", &constants)?,
            scale_per_rms: parts.scale_per_rms,
            fine: parts.fine.is_some(),
        })
    }

    /// Values of a row.
    pub fn dim(&self) -> usize {
        self.codec.dim()
    }

    /// Bytes on the device besides the codec's own.
    pub fn bytes(&self) -> u64 {
        self.rotation.bytes() + self.centroids.bytes() + self.constants.bytes()
    }

    /// The codec.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// The codec's centroids.
    pub fn centroids(&self) -> &Centroids {
        &self.centroids
    }

    /// The rows of the rotation.
    pub(crate) fn rotation(&self) -> &Centroids {
        &self.rotation
    }

    /// `[16 + SCALES + 16]`: levels, scales, and the steps of each code's fine codes.
    pub(crate) fn constants(&self) -> &Buffer<f32> {
        &self.constants
    }

    pub(crate) fn scale_per_rms(&self) -> f32 {
        self.scale_per_rms
    }

    /// Whether tokens get fine codes.
    pub fn fine(&self) -> bool {
        self.fine
    }

    /// Words of a token's fine codes; 0 where there are none.
    pub(crate) fn fine_words(&self) -> usize {
        if self.fine { code_words(self.dim(), FINE_BITS) } else { 0 }
    }
}
