//! A random rotation, so that residuals spread evenly over the dimensions.

use latewood_simd::QueryF32;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::backend::CpuBackend;

/// A random orthogonal matrix `[d, d]`: Gaussian rows made orthonormal one after the other (modified Gram-Schmidt).
pub(super) fn random(dim: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(dim);
    while rows.len() < dim {
        let mut row: Vec<f64> = (0..dim).map(|_| gaussian(rng)).collect();
        // Twice: once leaves rounding that shows at a thousand dimensions.
        for _ in 0..2 {
            for done in &rows {
                let dot: f64 = row.iter().zip(done).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(done).for_each(|(a, b)| *a -= dot * b);
            }
        }
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        // A row that all but vanishes has lost its precision; another draw takes its place.
        if norm > 1e-6 {
            row.iter_mut().for_each(|x| *x /= norm);
            rows.push(row);
        }
    }
    rows.into_iter().flatten().map(|x| x as f32).collect()
}

/// Box and Muller's transform of two uniform draws.
fn gaussian(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// `rows[n, d]` turned: dimension `i` of the result is the dot product with row `i` of the rotation.
pub(super) fn rotate(backend: &CpuBackend, rotation: &QueryF32, rows: &[f32]) -> Vec<f32> {
    let (dim, lanes) = (rotation.dim(), rotation.lanes());
    let mut padded = vec![0.0; rows.len() / dim * lanes];
    backend.dots(rows, rotation, &mut padded);
    if lanes == dim {
        return padded;
    }
    padded.chunks_exact(lanes).flat_map(|row| &row[..dim]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn rotations_keep_dot_products() {
        for dim in [8, 24, 128] {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let matrix = random(dim, &mut rng);
            let rows: Vec<f32> = (0..5 * dim).map(|_| rng.random_range(-1.0..1.0)).collect();
            let turned = rotate(&crate::CpuBackend::new(), &QueryF32::new(&matrix, dim), &rows);
            assert_ne!(rows, turned);
            let dot = |x: &[f32], a: usize, b: usize| -> f32 {
                x[a * dim..][..dim].iter().zip(&x[b * dim..][..dim]).map(|(a, b)| a * b).sum()
            };
            for (a, b) in [(0, 0), (1, 2), (3, 4)] {
                assert!((dot(&rows, a, b) - dot(&turned, a, b)).abs() < 1e-4, "dimension {dim}");
            }
        }
    }
}
