//! The best `k` hits of a stream.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Hit;

/// Keeps the best `k`: larger scores first, then smaller keys. What is kept may carry more than the hit.
#[derive(Debug)]
pub(crate) struct TopK<T = Hit> {
    k: usize,
    /// The worst of the kept on top.
    heap: BinaryHeap<Ranked<T>>,
}

#[derive(Debug, Clone, Copy)]
struct Ranked<T>(T);

impl<T: AsRef<Hit>> Ord for Ranked<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.0.as_ref(), other.0.as_ref());
        b.score.total_cmp(&a.score).then(a.doc.cmp(&b.doc))
    }
}

impl<T: AsRef<Hit>> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: AsRef<Hit>> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: AsRef<Hit>> Eq for Ranked<T> {}

impl AsRef<Hit> for Hit {
    fn as_ref(&self) -> &Hit {
        self
    }
}

impl<T: AsRef<Hit>> TopK<T> {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    pub(crate) fn push(&mut self, item: T) {
        let item = Ranked(item);
        if self.heap.len() < self.k {
            self.heap.push(item);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && item < *worst
        {
            *worst = item;
        }
    }

    /// The score that another must beat; `None` while there is room.
    pub(crate) fn least(&self) -> Option<f32> {
        let full = self.heap.len() == self.k;
        self.heap.peek().filter(|_| full).map(|worst| worst.0.as_ref().score)
    }

    pub(crate) fn into_sorted(self) -> Vec<T> {
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
