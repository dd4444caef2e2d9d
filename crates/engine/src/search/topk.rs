//! The best `k` hits of a stream.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Hit;

/// Keeps the best `k`: larger scores first, then smaller keys.
#[derive(Debug)]
pub(crate) struct TopK {
    k: usize,
    /// The worst of the kept on top.
    heap: BinaryHeap<Ranked>,
}

#[derive(Debug, Clone, Copy)]
struct Ranked(Hit);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.doc.cmp(&other.0.doc))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

impl TopK {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    pub(crate) fn push(&mut self, hit: Hit) {
        let hit = Ranked(hit);
        if self.heap.len() < self.k {
            self.heap.push(hit);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && hit < *worst
        {
            *worst = hit;
        }
    }

    pub(crate) fn into_sorted(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|ranked| ranked.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DocId;

    #[test]
    fn best_first_and_ties_by_key() {
        let mut best = TopK::new(3);
        for (doc, score) in [(5, 1.0), (1, 2.0), (4, 1.0), (9, 0.5), (3, 1.0)] {
            best.push(Hit { doc: DocId(doc), score });
        }
        let ids: Vec<u64> = best.into_sorted().iter().map(|hit| hit.doc.0).collect();
        assert_eq!(ids, [1, 3, 4]);
    }
}
