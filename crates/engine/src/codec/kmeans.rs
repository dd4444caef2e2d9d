//! Spherical k-means: centroids are unit vectors, and a row belongs to the one with the largest dot product.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::assign::Assigner;
use crate::backend::{self, Backend, CpuBackend};
use crate::error::{Error, Result};

/// Passes for the leaders of groups, which need not be good.
const GROUP_ITERATIONS: usize = 3;

/// `count` centroids `[count, d]` of `rows` `[n, d]`, `count <= n`; `step` hears of each finished pass and may cancel.
pub(super) fn cluster(
    rows: &[f32],
    dim: usize,
    count: usize,
    passes: usize,
    backend: &dyn Backend,
    rng: &mut ChaCha8Rng,
    step: impl FnMut(usize, usize) -> bool,
) -> Result<Vec<f32>> {
    debug_assert!(count > 0 && count <= rows.len() / dim);
    let centroids = sample(rows, dim, count, rng);
    improve(rows, dim, centroids, passes, backend, rng, step)
}

/// `centroids` `[c, d]` after so many passes over `rows`, as [`cluster`] makes them; large passes are the device's.
pub(super) fn improve(
    rows: &[f32],
    dim: usize,
    mut centroids: Vec<f32>,
    passes: usize,
    backend: &dyn Backend,
    rng: &mut ChaCha8Rng,
    mut step: impl FnMut(usize, usize) -> bool,
) -> Result<Vec<f32>> {
    let mut assigned = vec![0; rows.len() / dim];
    for pass in 0..passes {
        if !step(pass, passes) {
            return Err(Error::Cancelled);
        }
        match backend::assign(backend, &centroids, dim, rows)? {
            Some(found) => assigned = found,
            None => {
                let assigner = Assigner::new(centroids, dim, backend.cpu());
                assigner.assign(rows, &mut assigned);
                centroids = assigner.into_centroids();
            }
        }
        update(rows, dim, assigned.iter().map(|&c| usize::from(c)), &mut centroids, rng);
    }
    Ok(centroids)
}

/// Groups `rows` `[n, d]` around `count` leaders: the group of each row.
pub(super) fn group(rows: &[f32], dim: usize, count: usize, backend: &CpuBackend) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut leaders = sample(rows, dim, count, &mut rng);
    let mut assigned = vec![0; rows.len() / dim];
    for _ in 0..GROUP_ITERATIONS {
        backend.assign(rows, &leaders, dim, &mut assigned);
        update(rows, dim, assigned.iter().map(|&c| c as usize), &mut leaders, &mut rng);
    }
    backend.assign(rows, &leaders, dim, &mut assigned);
    assigned
}

fn sample(rows: &[f32], dim: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let picked = rand::seq::index::sample(rng, rows.len() / dim, count);
    picked.into_iter().flat_map(|at| &rows[at * dim..][..dim]).copied().collect()
}

/// Each centroid becomes the direction of the sum of its rows; one without rows takes a random row's place.
fn update(
    rows: &[f32],
    dim: usize,
    assigned: impl ExactSizeIterator<Item = usize>,
    centroids: &mut [f32],
    rng: &mut ChaCha8Rng,
) {
    let n = assigned.len();
    centroids.fill(0.0);
    for (row, c) in rows.chunks_exact(dim).zip(assigned) {
        let sum = &mut centroids[c * dim..][..dim];
        sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
    for centroid in centroids.chunks_exact_mut(dim) {
        if centroid.iter().map(|x| x * x).sum::<f32>() > 1e-12 {
            let unit: Vec<f32> = direction(centroid).collect();
            centroid.copy_from_slice(&unit);
        } else {
            let at = rng.random_range(0..n);
            centroid.copy_from_slice(&rows[at * dim..][..dim]);
        }
    }
}

/// `row` at unit length.
pub(super) fn direction(row: &[f32]) -> impl Iterator<Item = f32> {
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter().map(move |x| x / norm)
}
