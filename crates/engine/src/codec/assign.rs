//! Which centroid a row belongs to, without meeting all of them.
//!
//! The centroids are themselves grouped around leaders; a row meets the leaders, and then the centroids of the nearest
//! few groups. For `c` centroids that is about `sqrt(c)` dot products for each step where a full search takes `c`; the
//! centroid found is nearly always the nearest, and where it is not, one almost as near.

use latewood_simd::{Kernels, LANES, QueryF32};
use rayon::prelude::*;

use super::kmeans;
use crate::backend::Backend;

/// Fewer centroids are met one by one.
const MIN_GROUPED: usize = 512;
/// Groups whose centroids a row meets.
const PROBED_GROUPS: usize = 4;
/// Rows assigned together: enough that each group is met by many of them.
const CHUNK: usize = 8192;
/// Rows that go through a kernel together.
const BLOCK: usize = 2 * LANES;

/// Finds the centroid of a row.
pub(super) struct Assigner {
    dim: usize,
    /// `[c, d]`
    centroids: Vec<f32>,
    groups: Option<Groups>,
}

/// Centroids sorted by group.
struct Groups {
    /// `[g, d]`
    leaders: Vec<f32>,
    /// `[c, d]`, group after group.
    members: Vec<f32>,
    /// `[c]`: which centroid each member is.
    ids: Vec<u16>,
    /// `[g + 1]`
    offsets: Vec<usize>,
}

impl Assigner {
    /// For `centroids` `[c, d]`.
    pub(super) fn new(centroids: Vec<f32>, dim: usize, backend: &dyn Backend) -> Self {
        let groups = (centroids.len() / dim >= MIN_GROUPED).then(|| Groups::new(&centroids, dim, backend));
        Self { dim, centroids, groups }
    }

    /// A centroid, `[d]`.
    pub(super) fn centroid(&self, id: u16) -> &[f32] {
        &self.centroids[usize::from(id) * self.dim..][..self.dim]
    }

    /// The centroids, `[c, d]`.
    pub(super) fn into_centroids(self) -> Vec<f32> {
        self.centroids
    }

    /// The centroid of each of `rows` `[n, d]`, into `out` `[n]`.
    pub(super) fn assign(&self, backend: &dyn Backend, rows: &[f32], out: &mut [u16]) {
        match &self.groups {
            None => {
                let mut ids = vec![0; out.len()];
                backend.assign(rows, &self.centroids, self.dim, &mut ids);
                out.iter_mut().zip(ids).for_each(|(out, id)| *out = id as u16);
            }
            Some(groups) => {
                let chunks = rows.par_chunks(CHUNK * self.dim).zip(out.par_chunks_mut(CHUNK));
                chunks.for_each(|(rows, out)| groups.assign(rows, self.dim, out));
            }
        }
    }
}

impl Groups {
    fn new(centroids: &[f32], dim: usize, backend: &dyn Backend) -> Self {
        let count = centroids.len() / dim;
        let (leaders, group_of) = kmeans::group(centroids, dim, count.isqrt(), backend);
        let mut order: Vec<u16> = (0..count).map(|id| id as u16).collect();
        order.sort_by_key(|&id| group_of[usize::from(id)]);
        let groups = leaders.len() / dim;
        let offsets = (0..=groups).map(|g| order.partition_point(|&id| (group_of[usize::from(id)] as usize) < g));
        let offsets = offsets.collect();
        let members = order.iter().flat_map(|&id| &centroids[usize::from(id) * dim..][..dim]).copied().collect();
        Self { leaders, members, ids: order, offsets }
    }

    fn assign(&self, rows: &[f32], dim: usize, out: &mut [u16]) {
        let kernels = Kernels::detect();
        let groups = self.offsets.len() - 1;
        let mut visitors: Vec<Vec<u32>> = vec![Vec::new(); groups];
        let mut block = QueryF32::new(&[], dim);
        let mut dots = Vec::new();
        for (first, rows) in (0..).step_by(BLOCK).zip(rows.chunks(BLOCK * dim)) {
            block.refill(rows);
            dots.resize(groups * block.lanes(), 0.0);
            kernels.dots(&self.leaders, &block, &mut dots);
            for row in 0..block.rows() {
                let scores = (0..groups).map(|g| dots[g * block.lanes() + row]);
                nearest_groups(scores).into_iter().for_each(|g| visitors[g].push(first + row as u32));
            }
        }
        let mut best = vec![(f32::NEG_INFINITY, 0u32); out.len()];
        let mut gathered = Vec::with_capacity(BLOCK * dim);
        for (group, visitors) in visitors.iter().enumerate() {
            let run = self.offsets[group]..self.offsets[group + 1];
            for visitors in visitors.chunks(BLOCK) {
                gathered.clear();
                visitors.iter().for_each(|&row| gathered.extend_from_slice(&rows[row as usize * dim..][..dim]));
                block.refill(&gathered);
                let (mut ids, mut near) = ([0; BLOCK], [f32::NEG_INFINITY; BLOCK]);
                let lanes = block.lanes();
                let members = &self.members[run.start * dim..run.end * dim];
                kernels.nearest(members, run.start as u32, &block, &mut ids[..lanes], &mut near[..lanes]);
                for ((&row, id), dot) in visitors.iter().zip(ids).zip(near) {
                    if dot > best[row as usize].0 {
                        best[row as usize] = (dot, id);
                    }
                }
            }
        }
        for (out, (_, at)) in out.iter_mut().zip(best) {
            *out = self.ids[at as usize];
        }
    }
}

/// The groups with the largest scores.
fn nearest_groups(scores: impl Iterator<Item = f32>) -> [usize; PROBED_GROUPS] {
    let mut best = [(f32::NEG_INFINITY, 0); PROBED_GROUPS];
    for (group, score) in scores.enumerate() {
        if score > best[PROBED_GROUPS - 1].0 {
            let at = best.partition_point(|&(s, _)| s >= score);
            best[at..].rotate_right(1);
            best[at] = (score, group);
        }
    }
    best.map(|(_, group)| group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuBackend;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

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
        let assigner = Assigner::new(centroids.clone(), dim, &backend);
        assert!(assigner.groups.is_some());
        let (mut found, mut nearest) = (vec![0; n], vec![0; n]);
        assigner.assign(&backend, &rows, &mut found);
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
