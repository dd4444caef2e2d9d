//! Coding and decoding tokens.

use half::f16;
use latewood_simd::{ResidualTokens, code_bytes, pack_codes, unpack_codes};
use rayon::prelude::*;

use super::ResidualCodec;
use crate::backend::Backend;

/// Rows coded by one task.
const CHUNK: usize = 512;
/// Times that codes and scale are fitted to each other: the second brings what there is to gain.
const FITS: usize = 2;

/// Coded tokens, as they go into a shard.
#[derive(Debug, Default)]
pub(crate) struct CodedTokens {
    /// `[n]`
    pub(crate) centroids: Vec<u32>,
    /// `[n]`
    pub(crate) scales: Vec<f16>,
    /// `[n]`
    pub(crate) inverse_norms: Vec<f16>,
    /// `[n, code_bytes(dim, bits)]`
    pub(crate) codes: Vec<u8>,
}

impl CodedTokens {
    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.centroids.len()
    }

    /// Adds tokens that the same codec made.
    pub(crate) fn extend(&mut self, tokens: &ResidualTokens<'_>) {
        self.centroids.extend_from_slice(tokens.centroids);
        self.scales.extend_from_slice(tokens.scales);
        self.inverse_norms.extend_from_slice(tokens.inverse_norms);
        self.codes.extend_from_slice(tokens.codes);
    }
}

impl ResidualCodec {
    /// Codes `rows` `[n, d]`, unit rows.
    pub(crate) fn encode(&self, backend: &dyn Backend, rows: &[f32]) -> CodedTokens {
        let dim = self.dim();
        let n = rows.len() / dim;
        let plane = code_bytes(dim, self.bits());
        let rotated = self.rotate(backend, rows);
        let mut coded = CodedTokens {
            centroids: vec![0; n],
            scales: vec![f16::ZERO; n],
            inverse_norms: vec![f16::ZERO; n],
            codes: vec![0; n * plane],
        };
        backend.assign(&rotated, self.centroids(), dim, &mut coded.centroids);
        let coder = Coder::new(self);
        coded
            .codes
            .par_chunks_mut(CHUNK * plane)
            .zip(coded.scales.par_chunks_mut(CHUNK))
            .zip(coded.inverse_norms.par_chunks_mut(CHUNK))
            .zip(coded.centroids.par_chunks(CHUNK))
            .zip(rotated.par_chunks(CHUNK * dim))
            .for_each(|((((codes, scales), norms), centroids), rows)| {
                let mut work = Work::new(dim);
                for i in 0..centroids.len() {
                    let centroid = &self.centroids()[centroids[i] as usize * dim..][..dim];
                    (scales[i], norms[i]) = coder.code(&rows[i * dim..][..dim], centroid, &mut work);
                    pack_codes(&work.codes, self.bits(), &mut codes[i * plane..][..plane]);
                }
            });
        coded
    }

    /// Decodes tokens to unit rows `[n, d]`, in the space the embeddings came in.
    pub(crate) fn decode(&self, tokens: &ResidualTokens<'_>) -> Vec<f32> {
        let dim = self.dim();
        let plane = code_bytes(dim, self.bits());
        let mut codes = vec![0; dim];
        let rotation = self.file.at(&self.rotation);
        let mut out = vec![0.0; tokens.len() * dim];
        for (t, out) in out.chunks_exact_mut(dim).enumerate() {
            unpack_codes(&tokens.codes[t * plane..][..plane], self.bits(), &mut codes);
            let centroid = &self.centroids()[tokens.centroids[t] as usize * dim..][..dim];
            let (scale, inverse_norm) = (tokens.scales[t].to_f32(), tokens.inverse_norms[t].to_f32());
            for ((i, &code), &c) in codes.iter().enumerate().zip(centroid) {
                let value = (c + scale * f32::from(self.levels[code as usize])) * inverse_norm;
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

impl Work {
    fn new(dim: usize) -> Self {
        Self { residual: vec![0.0; dim], codes: vec![0; dim] }
    }
}

/// The codec's tables, ready for coding.
struct Coder {
    levels: Vec<f32>,
    /// Where the next level becomes the nearer one.
    borders: Vec<f32>,
    scale_per_rms: f32,
}

impl Coder {
    fn new(codec: &ResidualCodec) -> Self {
        let levels: Vec<f32> = codec.levels[..1 << codec.bits()].iter().map(|&l| f32::from(l)).collect();
        let borders = levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        Self { levels, borders, scale_per_rms: codec.meta.scale_per_rms }
    }

    /// Codes one rotated row into `work.codes`; returns its scale and inverse norm.
    fn code(&self, row: &[f32], centroid: &[f32], work: &mut Work) -> (f16, f16) {
        for ((r, x), c) in work.residual.iter_mut().zip(row).zip(centroid) {
            *r = x - c;
        }
        let rms = (work.residual.iter().map(|r| r * r).sum::<f32>() / row.len() as f32).sqrt();
        let mut scale = rms * self.scale_per_rms;
        for _ in 0..FITS {
            self.nearest_levels(scale, work);
            scale = self.best_scale(work).unwrap_or(0.0);
        }
        let scale = f16::from_f32(scale);
        let norm = work
            .codes
            .iter()
            .zip(centroid)
            .map(|(&code, c)| (c + scale.to_f32() * self.levels[code as usize]).powi(2))
            .sum::<f32>()
            .sqrt();
        // A decoded row of no length points nowhere; any factor leaves it so.
        let inverse_norm = if norm > 1e-3 { 1.0 / norm } else { 1.0 };
        (scale, f16::from_f32(inverse_norm))
    }

    fn nearest_levels(&self, scale: f32, work: &mut Work) {
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (code, r) in work.codes.iter_mut().zip(&work.residual) {
            let x = r * inverse;
            *code = self.borders.iter().map(|&border| u8::from(x > border)).sum();
        }
    }

    /// The scale that brings the chosen levels nearest to the residual: `<r, l> / <l, l>`.
    fn best_scale(&self, work: &Work) -> Option<f32> {
        let (mut dot, mut square) = (0.0, 0.0);
        for (&code, r) in work.codes.iter().zip(&work.residual) {
            let level = self.levels[code as usize];
            dot += level * r;
            square += level * level;
        }
        (square > 0.0).then(|| (dot / square).max(0.0))
    }
}
