//! Training a codec on a seeded sample of the rows it will code.

use latewood_simd::{QueryF32, SCALES};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::assign::Assigner;
use super::{ByteRows, MAX_CENTROIDS, Parts, kmeans, levels, rotation, to_f32, token_aware};
use crate::backend::{self, Backend};
use crate::error::Result;

/// Passes of k-means over a sample without token ids.
const ITERATIONS: usize = 8;
/// Rows sampled for each centroid.
const ROWS_PER_CENTROID: usize = 40;
/// A sample that is not all there is has as many rows for each centroid at least.
const LEAST_ROWS_PER_CENTROID: usize = 8;
/// Rows rotated at a time.
const ROTATE_ROWS: usize = 1 << 12;
/// Residual values that the levels are trained on.
const LEVEL_VALUES: usize = 1 << 20;

/// How many centroids an index of `tokens` tokens gets: a power of two near `8 sqrt(tokens)`, as PLAID's 16 with half
/// the work, and never so many that they hardly group.
fn centroid_count(tokens: u64) -> usize {
    let wanted = (8.0 * (tokens as f64).sqrt()).min(tokens as f64 / 4.0);
    (1 << wanted.max(1.0).log2().floor() as u32).min(MAX_CENTROIDS)
}

/// As many centroids as a sample of `n` out of `total` rows can tell.
fn most_centroids(n: usize, total: u64) -> usize {
    if n as u64 >= total { n } else { 1 << (n / LEAST_ROWS_PER_CENTROID).max(1).ilog2() }
}

/// Chooses, one after the other, which rows a codec is trained on ([`crate::IndexWriter::sampler`]).
#[derive(Debug)]
pub struct Sampler {
    rng: ChaCha8Rng,
    dim: usize,
    wanted: u64,
    left: u64,
}

impl Sampler {
    /// A sampler over `total` rows of `dim` values, of up to `bytes`.
    pub(crate) fn new(total: u64, dim: usize, seed: u64, bytes: usize) -> Self {
        let wanted = (centroid_count(total) * ROWS_PER_CENTROID).min(bytes / (dim * size_of::<f32>()));
        Self::small(total, wanted as u64, dim, seed)
    }

    /// A sampler of `wanted` rows.
    pub(crate) fn small(total: u64, wanted: u64, dim: usize, seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), dim, wanted, left: total }
    }

    /// Values of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Whether the next row belongs to the sample: every set of the wanted size is equally likely (Vitter 1987,
    /// algorithm S). None does beyond the number of rows that the sampler was made for.
    pub fn take(&mut self) -> bool {
        let taken = self.left > 0 && self.rng.random_range(0..self.left) < self.wanted;
        self.left = self.left.saturating_sub(1);
        self.wanted -= u64::from(taken);
        taken
    }
}

/// Rows to train a codec on.
#[derive(Debug)]
pub(crate) struct Sample {
    /// `[n, d]`
    pub(crate) rows: Vec<f32>,
    /// `[n]`: the rows' tokens, if they are known of all rows.
    pub(crate) token_ids: Option<Vec<u32>>,
}

impl Sample {
    /// Without rows.
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), token_ids: Some(Vec::new()) }
    }

    /// Hears of the token of the row added last.
    pub(crate) fn push_id(&mut self, id: Option<u32>) {
        match (&mut self.token_ids, id) {
            (Some(ids), Some(id)) => ids.push(id),
            _ => self.token_ids = None,
        }
    }
}

/// What a codec is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) dim: usize,
    pub(crate) bits: u32,
    /// Whether tokens get fine codes.
    pub(crate) fine: bool,
}

/// Trains a codec for an index of `total` rows on a `sample` of them.
pub(crate) fn train(
    sample: Sample,
    shape: Shape,
    total: u64,
    seed: u64,
    backend: &dyn Backend,
    step: impl FnMut(usize, usize) -> bool,
) -> Result<Parts> {
    let Shape { dim, bits, fine } = shape;
    let Sample { mut rows, token_ids } = sample;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let matrix = rotation::random(dim, &mut rng);
    let lanes = QueryF32::new(&matrix, dim);
    // In place: a sample is large.
    for rows in rows.chunks_mut(ROTATE_ROWS * dim) {
        rows.copy_from_slice(&rotation::rotate(backend.cpu(), &lanes, rows));
    }
    let n = rows.len() / dim;
    let count = centroid_count(total).min(most_centroids(n, total));
    let centroids = match token_ids {
        Some(ids) => token_aware::cluster(&mut rows, &ids, dim, count, backend, &mut rng, step),
        None => kmeans::cluster(&rows, dim, count, ITERATIONS, backend, &mut rng, step),
    };
    // What is off in the bytes is part of the residuals.
    let centroids = ByteRows::new(&centroids?, dim);
    let assigner = Assigner::new(to_f32(&centroids.bytes, &centroids.scales, dim), dim, backend.cpu());
    let (values, mean_rms) = residual_values(&rows, &assigner, dim, backend)?;
    drop(rows);
    let (levels, scale_per_rms) = levels::train(values.clone(), bits);
    let fine = fine.then(|| levels::fine_steps(&values, &levels[..1 << bits], scale_per_rms));
    let scales = scales(dim, scale_per_rms);
    let mean_scale = mean_rms * scale_per_rms;
    let rotation = matrix;
    let (centroids, groups) = assigner.into_bytes();
    Ok(Parts {
        dim,
        bits,
        centroids,
        groups,
        scales,
        rotation,
        levels,
        scale_per_rms,
        mean_scale,
        fine,
        trained_on: total,
    })
}

/// The scales that tokens choose from: 0, and 63 that end at the longest residual of a token on its centroid's side,
/// `sqrt(2)`, each 9% above the one before.
fn scales(dim: usize, scale_per_rms: f32) -> [f32; SCALES] {
    let largest = (2.0 / dim as f32).sqrt() * scale_per_rms;
    std::array::from_fn(|i| if i == 0 { 0.0 } else { largest * ((i as f32 - 63.0) / 8.0).exp2() })
}

/// Values of residuals, each in units of its row's root mean square, of rows spread over the sample; and the mean of
/// those root mean squares.
fn residual_values(rows: &[f32], assigner: &Assigner, dim: usize, backend: &dyn Backend) -> Result<(Vec<f32>, f32)> {
    let n = rows.len() / dim;
    let stride = n.div_ceil((LEVEL_VALUES / dim).max(1)).max(1);
    let picked: Vec<f32> = rows.chunks_exact(dim).step_by(stride).flatten().copied().collect();
    let assigned = match backend::assign(backend, assigner.centroids(), dim, &picked)? {
        Some(found) => found,
        None => {
            let mut assigned = vec![0; picked.len() / dim];
            assigner.assign(&picked, &mut assigned);
            assigned
        }
    };
    let (mut values, mut sum) = (Vec::with_capacity(picked.len()), 0.0);
    for (row, &c) in picked.chunks_exact(dim).zip(&assigned) {
        let residual = row.iter().zip(assigner.centroid(c)).map(|(x, c)| x - c);
        let rms = (residual.clone().map(|r| r * r).sum::<f32>() / dim as f32).sqrt();
        sum += rms;
        // A row that is its centroid says nothing about the shape of residuals.
        if rms > 1e-5 {
            values.extend(residual.map(|r| r / rms));
        }
    }
    Ok((values, sum / assigned.len().max(1) as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centroids_grow_with_the_root_of_the_tokens() {
        assert_eq!(centroid_count(1), 1);
        assert_eq!(centroid_count(100), 16);
        assert_eq!(centroid_count(1_000_000), 4096);
        assert_eq!(centroid_count(4_000_000), 8192);
    }

    #[test]
    fn a_sample_has_the_wanted_size() {
        let mut sampler = Sampler::new(100_000, 8, 1, usize::MAX);
        let taken = (0..100_000).filter(|_| sampler.take()).count();
        assert_eq!(taken, centroid_count(100_000) * ROWS_PER_CENTROID);
        let mut small = Sampler::new(10, 8, 1, usize::MAX);
        assert_eq!((0..10).filter(|_| small.take()).count(), 10);
    }
}
