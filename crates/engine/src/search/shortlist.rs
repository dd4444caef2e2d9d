//! The best candidates so far, over all shards.

use crate::ids::DocOrd;

/// A document that may be found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// What is known of its score so far.
    pub(super) score: f32,
    /// Position of its shard in the snapshot.
    pub(super) shard: u32,
    pub(super) doc: DocOrd,
}

/// Keeps the best `budget` candidates of what is pushed. Twice as many are held, and cut when there is no more room:
/// a push is mostly one comparison.
#[derive(Debug, Clone)]
pub(super) struct Shortlist {
    budget: usize,
    /// No candidate below is among the best.
    threshold: f32,
    held: Vec<Candidate>,
}

impl Shortlist {
    /// `budget` is at least 1.
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, threshold: f32::NEG_INFINITY, held: Vec::new() }
    }

    /// How many are kept.
    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    #[inline]
    pub(super) fn push(&mut self, candidate: Candidate) {
        if candidate.score >= self.threshold {
            self.held.push(candidate);
            if self.held.len() >= self.budget.saturating_mul(2) {
                self.cut();
            }
        }
    }

    /// The score below which nothing enters, once there are as many as are kept.
    pub(super) fn threshold(&self) -> Option<f32> {
        (self.threshold > f32::NEG_INFINITY).then_some(self.threshold)
    }

    /// Lets go of what is not among the best.
    pub(super) fn cut(&mut self) {
        if self.held.len() > self.budget {
            let order = |c: &Candidate| (c.shard, c.doc);
            let by_rank = |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score).then(order(a).cmp(&order(b)));
            let (_, last, _) = self.held.select_nth_unstable_by(self.budget - 1, by_rank);
            self.threshold = last.score;
            self.held.truncate(self.budget);
        }
    }

    /// The best, in the order they lie in the shards, so that memory is read forwards.
    pub(super) fn into_candidates(mut self) -> Vec<Candidate> {
        self.cut();
        self.held.sort_unstable_by_key(|c| (c.shard, c.doc));
        self.held
    }
}

/// The candidates of each shard: its position, and theirs. They lie in that order ([`Shortlist::into_candidates`]).
pub(super) fn by_shard(candidates: &[Candidate]) -> impl Iterator<Item = (usize, &[Candidate])> {
    candidates.chunk_by(|a, b| a.shard == b.shard).map(|run| (run[0].shard as usize, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stay_and_ties_go_to_the_first() {
        let mut list = Shortlist::new(3);
        for (doc, score) in (0..).zip([1.0, 5.0, 3.0, 3.0, 4.0, 3.0, 0.0, 3.0, 2.0]) {
            list.push(Candidate { score, shard: 0, doc: DocOrd(doc) });
        }
        let docs: Vec<u32> = list.into_candidates().iter().map(|c| c.doc.0).collect();
        assert_eq!(docs, [1, 2, 4]);
    }
}
