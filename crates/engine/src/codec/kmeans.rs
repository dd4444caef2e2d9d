//! Spherical k-means: centroids are unit vectors, and a row belongs to the one with the largest dot product.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::backend::Backend;
use crate::error::{Error, Result};

const ITERATIONS: usize = 5;

/// `count` centroids `[count, d]` of `rows` `[n, d]`, `count <= n`; `step` hears of each finished pass and may cancel.
pub(super) fn cluster(
    rows: &[f32],
    dim: usize,
    count: usize,
    backend: &dyn Backend,
    rng: &mut ChaCha8Rng,
    mut step: impl FnMut(usize, usize) -> bool,
) -> Result<Vec<f32>> {
    let n = rows.len() / dim;
    debug_assert!(count <= n && count > 0);
    let mut centroids = Vec::with_capacity(count * dim);
    for at in rand::seq::index::sample(rng, n, count) {
        centroids.extend_from_slice(&rows[at * dim..][..dim]);
    }
    let mut assigned = vec![0; n];
    for pass in 0..ITERATIONS {
        if !step(pass, ITERATIONS) {
            return Err(Error::Cancelled);
        }
        backend.assign(rows, &centroids, dim, &mut assigned);
        update(rows, dim, &assigned, &mut centroids, rng);
    }
    Ok(centroids)
}

/// Each centroid becomes the direction of the sum of its rows; one without rows takes a random row's place.
fn update(rows: &[f32], dim: usize, assigned: &[u32], centroids: &mut [f32], rng: &mut ChaCha8Rng) {
    centroids.fill(0.0);
    for (row, &c) in rows.chunks_exact(dim).zip(assigned) {
        let sum = &mut centroids[c as usize * dim..][..dim];
        sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
    for centroid in centroids.chunks_exact_mut(dim) {
        let norm = centroid.iter().map(|x| x * x).sum::<f32>().sqrt();
        if norm > 1e-6 {
            centroid.iter_mut().for_each(|x| *x /= norm);
        } else {
            let at = rng.random_range(0..assigned.len());
            centroid.copy_from_slice(&rows[at * dim..][..dim]);
        }
    }
}
