//! Fewer rows for a text: Ward's clustering on cosine distance, each cluster one row, its mean.
//!
//! As in the token pooling of Clavié et al. 2024 (arXiv:2409.14683): agglomerative clustering by Ward's criterion, run
//! on cosine distances as if they were Euclidean, cut where there are few enough clusters. Merges of equal distance go
//! together, so that there may be fewer. Pooled rows stand in the order of their first tokens.

use crate::recipe::TokenPooling;

/// The rows that `rows`, `[n, dim]`, are pooled to, and how many at the front stayed as they are.
pub(crate) fn pool(rows: &[f32], dim: usize, pooling: &TokenPooling) -> (Vec<f32>, usize) {
    let n = rows.len() / dim;
    let protected = pooling.protected.min(n);
    let (front, rows) = rows.split_at(protected * dim);
    let wanted = ((n - protected) as f64 / pooling.factor).floor().max(1.0) as usize;
    if wanted >= n - protected {
        return ([front, rows].concat(), n);
    }
    let mut out = front.to_vec();
    for members in clusters(rows, dim, wanted) {
        let start = out.len();
        out.resize(start + dim, 0.0);
        for member in &members {
            out[start..].iter_mut().zip(&rows[member * dim..][..dim]).for_each(|(sum, x)| *sum += x);
        }
        out[start..].iter_mut().for_each(|x| *x /= members.len() as f32);
    }
    (out, protected)
}

/// At most `wanted` clusters of `rows`, each the indices of its members.
fn clusters(rows: &[f32], dim: usize, wanted: usize) -> Vec<Vec<usize>> {
    let mut ward = Ward::new(rows, dim);
    let mut last = f64::NEG_INFINITY;
    while let Some((distance, pair)) = ward.nearest()
        && (ward.left > wanted || distance <= last)
    {
        ward.merge(pair);
        last = distance;
    }
    ward.members.into_iter().filter(|members| !members.is_empty()).collect()
}

/// The clusters so far and the distances between them.
struct Ward {
    n: usize,
    /// `[n, n]`, symmetric.
    distances: Vec<f64>,
    /// By the least of each cluster; empty for one that was merged into another.
    members: Vec<Vec<usize>>,
    /// For each cluster, the nearest of those behind it.
    nearest: Vec<Option<(f64, usize)>>,
    left: usize,
}

impl Ward {
    fn new(rows: &[f32], dim: usize) -> Self {
        let n = rows.len() / dim;
        let row = |i: usize| &rows[i * dim..][..dim];
        let distance = |i: usize, j: usize| {
            let dot: f32 = row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
            f64::from((1.0 - dot).clamp(0.0, 2.0))
        };
        let distances = (0..n * n).map(|at| distance(at / n, at % n)).collect();
        let mut ward =
            Self { n, distances, members: (0..n).map(|i| vec![i]).collect(), nearest: vec![None; n], left: n };
        for i in 0..n {
            ward.nearest[i] = ward.look(i);
        }
        ward
    }

    /// The nearest cluster behind `i`.
    fn look(&self, i: usize) -> Option<(f64, usize)> {
        let live = (i + 1..self.n).filter(|j| !self.members[*j].is_empty());
        live.map(|j| (self.distances[i * self.n + j], j)).min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// The two nearest clusters, the lesser first.
    fn nearest(&self) -> Option<(f64, [usize; 2])> {
        let pairs = self.nearest.iter().enumerate().filter_map(|(i, near)| near.map(|(d, j)| (d, [i, j])));
        pairs.min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Merges `j` into `i`, `i < j`; the distances to the others follow Lance and Williams.
    fn merge(&mut self, [i, j]: [usize; 2]) {
        let n = self.n;
        let size = |k: usize| self.members[k].len() as f64;
        let (a, b, between) = (size(i), size(j), self.distances[i * n + j]);
        for k in (0..n).filter(|k| *k != i && *k != j && !self.members[*k].is_empty()) {
            let c = size(k);
            let (x, y) = (self.distances[i * n + k], self.distances[j * n + k]);
            let squared = ((a + c) * x * x + (b + c) * y * y - c * between * between) / (a + b + c);
            let distance = squared.max(0.0).sqrt();
            self.distances[i * n + k] = distance;
            self.distances[k * n + i] = distance;
        }
        let members = std::mem::take(&mut self.members[j]);
        self.members[i].extend(members);
        self.members[i].sort_unstable();
        self.nearest[j] = None;
        self.left -= 1;
        // Only clusters before `j` had it, or `i`, as their nearest.
        for k in (0..j).filter(|k| !self.members[*k].is_empty()) {
            let stale = self.nearest[k].is_some_and(|(_, to)| to == i || to == j);
            if k == i || stale {
                self.nearest[k] = self.look(k);
            } else if k < i && self.nearest[k].is_none_or(|(d, _)| self.distances[k * n + i] < d) {
                self.nearest[k] = Some((self.distances[k * n + i], i));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(angles: &[f32]) -> Vec<f32> {
        angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect()
    }

    #[test]
    fn near_rows_become_their_mean_and_protected_ones_stay() {
        let rows = unit(&[0.0, 1.0, 2.5, 1.02, 2.52]);
        let pooling = TokenPooling { factor: 2.0, protected: 1, normalize: false };
        let (pooled, protected) = pool(&rows, 2, &pooling);
        assert_eq!((pooled.len(), protected), (6, 1));
        assert_eq!(pooled[..2], rows[..2]);
        for (row, angle) in pooled[2..].chunks_exact(2).zip([1.01_f32, 2.51]) {
            assert!((row[0] - angle.cos()).abs() < 1e-3 && (row[1] - angle.sin()).abs() < 1e-3, "{row:?}");
        }
    }

    #[test]
    fn few_rows_stay_and_equal_ones_fall_together() {
        let pooling = TokenPooling { factor: 2.0, protected: 3, normalize: false };
        assert_eq!(pool(&unit(&[0.0, 1.0, 2.0, 3.0]), 2, &pooling), (unit(&[0.0, 1.0, 2.0, 3.0]), 4));
        let same = unit(&[0.5; 6]);
        assert_eq!(clusters(&same, 2, 3), [[0, 1, 2, 3, 4, 5]]);
        assert_eq!(pool(&[], 2, &pooling), (vec![], 0));
    }

    #[test]
    fn the_nearest_pair_is_always_the_one_merged() {
        let mut state = 7_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 * 6.3
        };
        let mut ward = Ward::new(&unit(&(0..60).map(|_| random()).collect::<Vec<_>>()), 2);
        while let Some((distance, pair)) = ward.nearest() {
            let live: Vec<usize> = (0..60).filter(|i| !ward.members[*i].is_empty()).collect();
            let (live, distances) = (&live, &ward.distances);
            let pairs = live.iter().flat_map(|i| live.iter().filter(move |j| i < *j).map(move |j| i * 60 + j));
            assert_eq!(distance, pairs.map(|at| distances[at]).fold(f64::INFINITY, f64::min));
            ward.merge(pair);
        }
        assert_eq!(ward.left, 1);
    }
}
