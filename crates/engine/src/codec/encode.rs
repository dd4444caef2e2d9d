//! Coding and decoding tokens.

use std::ops::Range;
use std::sync::Arc;

use latewood_simd::{
    FINE_BITS, FINE_MIDDLE, FineSteps, Kernels, LevelTable, Quantised, ResidualTokens, SCALES, code_bytes, pack_codes,
    pack_factors, unpack_codes, unpack_factors,
};
use rayon::prelude::*;

use super::{ResidualCodec, levels};
use crate::backend::{self, Backend, CpuBackend};
use crate::error::Result;

/// Rows coded by one task.
const CHUNK: usize = 512;

/// Coded tokens, as they go into a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodedTokens {
    /// `[n]`
    pub centroids: Vec<u16>,
    /// `[n]`: each token's scale, one of the codec's, and inverse norm ([`latewood_simd::pack_factors`]).
    pub factors: Vec<u16>,
    /// `[n, code_bytes(dim, bits)]`, packed in planes ([`latewood_simd::pack_codes`]).
    pub codes: Vec<u8>,
    /// `[n, code_bytes(dim, FINE_BITS)]`, or nothing where the codec has no fine codes.
    pub fine: Vec<u8>,
}

impl CodedTokens {
    /// Some of the tokens, which `codec` has coded.
    pub(crate) fn tokens<'a>(&'a self, codec: &'a ResidualCodec, run: Range<usize>) -> ResidualTokens<'a> {
        let (plane, fine_plane) = codec.planes();
        ResidualTokens {
            bits: codec.bits(),
            dim: codec.dim(),
            levels: codec.levels(),
            scales: codec.scales(),
            centroids: &self.centroids[run.clone()],
            factors: &self.factors[run.clone()],
            codes: &self.codes[run.start * plane..run.end * plane],
            fine: &self.fine[run.start * fine_plane..run.end * fine_plane],
        }
    }

    /// The sum of the tokens' scales: how far they lie from their centroids.
    pub(crate) fn scale_sum(&self, scales: &[f32; SCALES]) -> f64 {
        self.factors.iter().map(|&factors| f64::from(unpack_factors(factors, scales).0)).sum()
    }
}

impl ResidualCodec {
    /// Codes `rows` `[n, d]`, unit rows, on the backend's device where it has one and the rows are many.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn encode(self: &Arc<Self>, backend: &dyn Backend, rows: &[f32]) -> Result<CodedTokens> {
        let coded = backend::code(backend, self, rows)?;
        Ok(coded.unwrap_or_else(|| self.encode_on(backend.cpu(), rows)))
    }

    /// Codes `rows` `[n, d]`, unit rows, on the processor.
    pub fn encode_on(&self, backend: &CpuBackend, rows: &[f32]) -> CodedTokens {
        let dim = self.dim();
        let n = rows.len() / dim;
        let (plane, fine_plane) = self.planes();
        let rotated = self.rotate(backend, rows);
        let mut coded = CodedTokens {
            centroids: vec![0; n],
            factors: vec![0; n],
            codes: vec![0; n * plane],
            fine: vec![0; n * fine_plane],
        };
        let assigner = self.assigner();
        assigner.assign(&rotated, &mut coded.centroids);
        let coder = Coder::new(self);
        // Without fine codes there is an empty run of them for each chunk.
        let mut fine: Vec<&mut [u8]> = match fine_plane {
            0 => (0..n.div_ceil(CHUNK)).map(|_| Default::default()).collect(),
            _ => coded.fine.chunks_mut(CHUNK * fine_plane).collect(),
        };
        coded
            .codes
            .par_chunks_mut(CHUNK * plane)
            .zip(&mut fine)
            .zip(coded.factors.par_chunks_mut(CHUNK))
            .zip(coded.centroids.par_chunks(CHUNK))
            .zip(rotated.par_chunks(CHUNK * dim))
            .for_each(|((((codes, fine), factors), centroids), rows)| {
                let mut work = Work { residual: vec![0.0; dim], codes: vec![0; dim] };
                for (i, row) in rows.chunks_exact(dim).enumerate() {
                    factors[i] = coder.code(row, assigner.centroid(centroids[i]), &mut work);
                    pack_codes(&work.codes, self.bits(), &mut codes[i * plane..][..plane]);
                    if let Some(steps) = self.fine() {
                        coder.code_fine(factors[i], steps, &mut work);
                        pack_codes(&work.codes, FINE_BITS, &mut fine[i * fine_plane..][..fine_plane]);
                    }
                }
            });
        coded
    }

    /// Decodes tokens to unit rows `[n, d]`, in the space the embeddings came in.
    pub(crate) fn decode(&self, tokens: &ResidualTokens<'_>) -> Vec<f32> {
        let dim = self.dim();
        let plane = code_bytes(dim, self.bits());
        let (bytes, centroid_scales) = self.centroids();
        let rotation = self.rotation();
        let fine_plane = self.planes().1;
        let (mut codes, mut fine) = (vec![0; dim], vec![0; dim]);
        let mut out = vec![0.0; tokens.len() * dim];
        for (t, out) in out.chunks_exact_mut(dim).enumerate() {
            unpack_codes(&tokens.codes[t * plane..][..plane], self.bits(), &mut codes);
            let c = usize::from(tokens.centroids[t]);
            let centroid = super::to_f32(&bytes[c * dim..][..dim], &centroid_scales[c..=c], dim);
            let (scale, mut inverse_norm) = unpack_factors(tokens.factors[t], &self.scales);
            if self.fine.is_some() {
                unpack_codes(&tokens.fine[t * fine_plane..][..fine_plane], FINE_BITS, &mut fine);
                // With fine codes a token is near unit length as it is.
                inverse_norm = 1.0;
            }
            for ((i, (&code, &fine)), c) in codes.iter().zip(&fine).enumerate().zip(centroid) {
                let step = self.fine.map_or(0.0, |fine| f32::from(fine.steps[usize::from(code)]) * fine.unit);
                let level = f32::from(self.levels[usize::from(code)]) + (f32::from(fine) - FINE_MIDDLE) * step;
                let value = (c + scale * level) * inverse_norm;
                // The rotation's transpose turns back: add the value along its row of the rotation.
                rotation[i * dim..][..dim].iter().zip(&mut *out).for_each(|(r, o)| *o += value * r);
            }
        }
        out
    }
}

/// Buffers for one token.
struct Work {
    residual: Vec<f32>,
    codes: Vec<u8>,
}

/// The codec's tables, ready for coding.
struct Coder<'a> {
    kernels: &'static Kernels,
    table: LevelTable,
    levels: [f32; 16],
    scales: &'a [f32; SCALES],
    scale_per_rms: f32,
}

impl<'a> Coder<'a> {
    fn new(codec: &'a ResidualCodec) -> Self {
        let table = LevelTable::new(&codec.levels[..1 << codec.bits()]);
        let levels = codec.levels.map(f32::from);
        let scale_per_rms = codec.meta.scale_per_rms;
        Self { kernels: Kernels::detect(), table, levels, scales: &codec.scales, scale_per_rms }
    }

    /// Codes one rotated row into `work.codes`; returns its factors.
    ///
    /// The residual's root mean square gives a first scale; its codes give the scale that brings their levels nearest
    /// to the residual, `<r, l> / <l, l>`; the nearest scale that can be said gives the codes.
    fn code(&self, row: &[f32], centroid: &[f32], work: &mut Work) -> u16 {
        let (square, centroid_square) = self.kernels.residual(row, centroid, &mut work.residual);
        let rms = (square / row.len() as f32).sqrt();
        let guess = self.quantise(rms * self.scale_per_rms, centroid, work);
        let wanted = if guess.level_level > 0.0 { guess.level_value / guess.level_level } else { 0.0 };
        let number = nearest_scale(self.scales, wanted);
        let scale = self.scales[number];
        let coded = self.quantise(scale, centroid, work);
        let square = centroid_square + 2.0 * scale * coded.level_other + scale * scale * coded.level_level;
        // A decoded row of no length points nowhere; any factor leaves it so.
        pack_factors(number, if square > 1e-6 { 1.0 / square.sqrt() } else { 1.0 })
    }

    /// Replaces `work.codes`, of the token that was just coded, by its fine codes.
    fn code_fine(&self, factors: u16, fine: &FineSteps, work: &mut Work) {
        let (scale, _) = unpack_factors(factors, self.scales);
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (code, residual) in work.codes.iter_mut().zip(&work.residual) {
            let step = f32::from(fine.steps[usize::from(*code)]) * fine.unit;
            *code = levels::fine_code(residual * inverse - self.levels[usize::from(*code)], step);
        }
    }

    fn quantise(&self, scale: f32, centroid: &[f32], work: &mut Work) -> Quantised {
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        self.kernels.quantise(&work.residual, centroid, inverse, &self.table, &mut work.codes)
    }
}

/// The scale nearest to `wanted`, as ratios go.
fn nearest_scale(scales: &[f32; SCALES], wanted: f32) -> usize {
    let above = scales.partition_point(|&scale| scale < wanted);
    match above {
        0 => 0,
        SCALES => SCALES - 1,
        _ if wanted * wanted < scales[above - 1] * scales[above] => above - 1,
        _ => above,
    }
}
