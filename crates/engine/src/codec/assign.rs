//! Which centroid a row belongs to, without meeting all of them.
//!
//! A row meets the means of groups of centroids ([`Groups`]), and then the centroids of the eight nearest groups. For `c`
//! centroids that is about `sqrt(c)` dot products for each step where a full search takes `c`; the centroid found is
//! nearly always the nearest, and where it is not, one almost as near.

use std::ops::Range;

use latewood_simd::{Kernels, LANES, LARGEST, QueryI8, RowsI8};
use rayon::prelude::*;

use super::ByteRows;
use super::groups::Groups;
use crate::backend::CpuBackend;

/// Rows assigned together: enough that each group is met by many of them.
const CHUNK: usize = 8192;
/// Rows that go through a kernel together.
const BLOCK: usize = 4 * LANES;

/// Finds the centroid of a row, by byte dot products.
pub(super) struct Assigner {
    dim: usize,
    /// `[c, d]`, group after group.
    centroids: Vec<f32>,
    /// The same in bytes.
    bytes: ByteRows,
    groups: Groups,
}

impl Assigner {
    /// For `centroids` `[c, d]`, which it brings into an order of its own.
    pub(super) fn new(centroids: Vec<f32>, dim: usize, backend: &CpuBackend) -> Self {
        let (groups, centroids) = Groups::new(centroids, dim, backend);
        Self::with_groups(centroids, dim, groups)
    }

    /// For `centroids` `[c, d]` that lie group after group.
    pub(super) fn with_groups(centroids: Vec<f32>, dim: usize, groups: Groups) -> Self {
        let bytes = ByteRows::new(&centroids, dim);
        Self { dim, centroids, bytes, groups }
    }

    /// A centroid, `[d]`.
    pub(super) fn centroid(&self, id: u16) -> &[f32] {
        &self.centroids[usize::from(id) * self.dim..][..self.dim]
    }

    /// All of them, `[c, d]`.
    pub(super) fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// The centroids, `[c, d]`.
    pub(super) fn into_centroids(self) -> Vec<f32> {
        self.centroids
    }

    /// The centroids in bytes and their groups.
    pub(super) fn into_bytes(self) -> (ByteRows, Groups) {
        (self.bytes, self.groups)
    }

    /// The centroid of each of `rows` `[n, d]`, into `out` `[n]`.
    pub(super) fn assign(&self, rows: &[f32], out: &mut [u16]) {
        let chunks = rows.par_chunks(CHUNK * self.dim).zip(out.par_chunks_mut(CHUNK));
        chunks.for_each(|(rows, out)| self.assign_chunk(&RowsI8::new(rows, self.dim), out));
    }

    fn assign_chunk(&self, rows: &RowsI8, out: &mut [u16]) {
        let mut best = vec![(f32::NEG_INFINITY, 0u32); out.len()];
        let (mut block, mut nearest, mut ids) = (QueryI8::empty(self.dim), [0.0; BLOCK], [0; BLOCK]);
        for (group, visitors) in self.visitors(rows).iter().enumerate() {
            let run = self.groups.run(group);
            let (members, scales) = self.bytes.run(run.clone(), self.dim);
            for visitors in visitors.chunks(BLOCK) {
                block.refill(rows, visitors.iter().map(|&row| row as usize));
                let lanes = block.lanes();
                let (nearest, ids) = (&mut nearest[..lanes], &mut ids[..lanes]);
                Kernels::detect().byte_nearest(members, scales, &block, nearest, ids);
                for ((&row, &mut dot), &mut at) in visitors.iter().zip(nearest).zip(ids) {
                    if dot > best[row as usize].0 {
                        best[row as usize] = (dot, run.start as u32 + at);
                    }
                }
            }
        }
        for (out, (_, at)) in out.iter_mut().zip(best) {
            *out = at as u16;
        }
    }

    /// For each group, the rows that meet its centroids.
    fn visitors(&self, rows: &RowsI8) -> Vec<Vec<u32>> {
        let groups = self.groups.len();
        if groups == 1 {
            return vec![(0..rows.len() as u32).collect()];
        }
        let mut visitors = vec![Vec::new(); groups];
        let (mut block, mut dots, mut ids) = (QueryI8::empty(self.dim), Vec::new(), [0; LARGEST * BLOCK]);
        for first in (0..rows.len()).step_by(BLOCK) {
            block.refill(rows, first..rows.len().min(first + BLOCK));
            // What was there is overwritten.
            dots.resize(groups * block.lanes(), 0.0);
            let (means, scales) = self.groups.means.run(0..groups, self.dim);
            Kernels::detect().byte_dots(means, scales, &block, &mut dots);
            let ids = &mut ids[..LARGEST * block.lanes()];
            Kernels::detect().largest(&dots, ids);
            for row in 0..block.rows() {
                let groups = ids.iter().skip(row).step_by(block.lanes());
                groups.for_each(|&group| visitors[group as usize].push((first + row) as u32));
            }
        }
        visitors
    }
}

impl ByteRows {
    /// Some of the rows and their scales.
    fn run(&self, run: Range<usize>, dim: usize) -> (&[u8], &[f32]) {
        (&self.bytes[run.start * dim..run.end * dim], &self.scales[run])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::kmeans;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn rows_of_any_size_fit_bytes() {
        for x in [1e-45, 2e-44, 1e-43, f32::MIN_POSITIVE, 1.0, f32::MAX, f32::INFINITY] {
            let rows = ByteRows::new(&[x, -x, 0.0, x / 2.0], 4);
            assert!(rows.bytes.iter().all(|b| (1..=127).contains(b)), "{x}: {rows:?}");
        }
    }

    #[test]
    fn nearly_always_the_nearest() {
        let (dim, c, n) = (16, 600, 2000);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut unit = |count: usize| -> Vec<f32> {
            let rows: Vec<f32> = (0..count * dim).map(|_| rng.random_range(-1.0..1.0)).collect();
            rows.chunks_exact(dim).flat_map(kmeans::direction).collect()
        };
        let (centroids, rows) = (unit(c), unit(n));
        let backend = CpuBackend::new();
        let assigner = Assigner::new(centroids, dim, &backend);
        assert!(assigner.groups.len() > 1);
        let centroids = assigner.centroids.clone();
        let (mut found, mut nearest) = (vec![0; n], vec![0; n]);
        assigner.assign(&rows, &mut found);
        backend.assign(&rows, &centroids, dim, &mut nearest);
        let same = found.iter().zip(&nearest).filter(|&(&a, &b)| u32::from(a) == b).count();
        assert!(same >= n * 3 / 4, "{same} of {n}");
        let dot = |row: usize, id: usize| -> f32 {
            rows[row * dim..][..dim].iter().zip(&centroids[id * dim..][..dim]).map(|(a, b)| a * b).sum()
        };
        let lost: f32 = (0..n).map(|i| dot(i, nearest[i] as usize) - dot(i, usize::from(found[i]))).sum();
        assert!(lost / (n as f32) < 0.02, "{}", lost / n as f32);
    }
}
