//! Groups of centroids, so that neither a row that is coded nor a query meets all of them.
//!
//! The centroids of a codec lie group after group, about `sqrt(c)` of them in each of about `sqrt(c)` groups; half as many
//! in twice as many where queries look at them too, of which each row goes its own way. A group is known by its mean,
//! which says what its centroids score on average: whoever looks for the nearest centroids meets the means, and then the
//! centroids of the groups that come first.

use std::ops::Range;

use super::{ByteRows, kmeans};
use crate::backend::CpuBackend;

/// Fewer centroids are one group.
const MIN_GROUPED: usize = 512;
/// From so many centroids on, a query too goes by groups: of fewer, meeting all takes less time (BENCHMARKS.md).
pub(crate) const SEARCHED_BY_GROUPS: usize = 1 << 15;

/// Which centroids belong together.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    /// `[g, d]`; none where there is one group.
    pub(super) means: ByteRows,
    /// `[g + 1]`: group `i` are the centroids `offsets[i]..offsets[i + 1]`.
    pub(super) offsets: Vec<u32>,
}

impl Groups {
    /// All of `count` centroids in one.
    pub(super) fn one(count: usize) -> Self {
        Self { means: ByteRows::default(), offsets: vec![0, count as u32] }
    }

    /// Groups `centroids` `[c, d]`; returns them group after group.
    pub(super) fn new(centroids: Vec<f32>, dim: usize, backend: &CpuBackend) -> (Self, Vec<f32>) {
        let count = centroids.len() / dim;
        if count < MIN_GROUPED {
            return (Self::one(count), centroids);
        }
        let groups = if count < SEARCHED_BY_GROUPS { count.isqrt() } else { 2 * count.isqrt() };
        let group_of = kmeans::group(&centroids, dim, groups, backend);
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.sort_by_key(|&c| group_of[c as usize]);
        let (mut offsets, mut means) = (vec![0], Vec::new());
        for group in order.chunk_by(|&a, &b| group_of[a as usize] == group_of[b as usize]) {
            offsets.push(offsets[offsets.len() - 1] + group.len() as u32);
            let start = means.len();
            means.resize(start + dim, 0.0);
            for &c in group {
                let centroid = &centroids[c as usize * dim..][..dim];
                means[start..].iter_mut().zip(centroid).for_each(|(mean, x)| *mean += x / group.len() as f32);
            }
        }
        let ordered = order.iter().flat_map(|&c| &centroids[c as usize * dim..][..dim]).copied().collect();
        (Self { means: ByteRows::new(&means, dim), offsets }, ordered)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The centroids of a group.
    pub(super) fn run(&self, group: usize) -> Range<usize> {
        self.offsets[group] as usize..self.offsets[group + 1] as usize
    }
}
