//! How much of an index a search looks at.

use latewood_engine::SearchParams;
use serde::{Deserialize, Serialize};

/// Which passages a search by meaning scores: the engine's stages, and how many go from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Centroids that each row of the query probes.
    pub probes: usize,
    /// Passages ranked by their tokens' outlines.
    pub shortlisted: usize,
    /// Passages scored on their compressed tokens.
    pub rescored: usize,
}

impl Budget {
    /// What is usual for `k` passages: 32 times as many are scored, 256 at least and 1,024 at most, of four times as many
    /// that are ranked. Measured (BENCHMARKS.md), more change nothing that judgements tell.
    pub fn usual(k: usize) -> Self {
        let rescored = k.saturating_mul(32).clamp(256, 1024);
        Self { probes: SearchParams::default().probes, shortlisted: 4 * rescored, rescored }
    }

    /// The engine's parameters.
    pub(crate) fn params(self, k: usize) -> SearchParams {
        let mut params = SearchParams::new(k);
        (params.probes, params.shortlisted, params.rescored) = (self.probes, self.shortlisted, self.rescored);
        params
    }
}

/// A budget that was measured on an index ([`crate::eval::tune`]), and is used there where nothing else is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tuned {
    /// The budget.
    pub budget: Budget,
    /// For so many passages.
    pub k: usize,
    /// Share of what scoring every passage finds first that it finds first, too.
    pub recall: f64,
    /// Passages that were in the index.
    pub passages: usize,
}

impl Tuned {
    pub(crate) fn new(budget: Budget, k: usize, recall: f64, passages: usize) -> Self {
        Self { budget, k, recall, passages }
    }

    /// For `k` passages: more are scored where more are wanted, as [`Budget::usual`] does, up to what it never goes beyond.
    pub(crate) fn budget(&self, k: usize) -> Budget {
        let most = |tuned: usize, usual: usize| (tuned.saturating_mul(k) / self.k.max(1)).min(usual).max(tuned);
        let usual = Budget::usual(usize::MAX);
        Budget {
            probes: self.budget.probes,
            shortlisted: most(self.budget.shortlisted, usual.shortlisted),
            rescored: most(self.budget.rescored, usual.rescored),
        }
    }

    /// Whether the index has grown so much that it should be measured again.
    pub fn is_outgrown(&self, passages: usize) -> bool {
        passages > self.passages.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuned_budget_grows_with_what_is_wanted() {
        let tuned = Tuned::new(Budget { probes: 3, shortlisted: 200, rescored: 100 }, 10, 0.99, 5000);
        assert_eq!(tuned.budget(5), tuned.budget);
        assert_eq!(tuned.budget(20), Budget { probes: 3, shortlisted: 400, rescored: 200 });
        assert_eq!(tuned.budget(1000), Budget { probes: 3, shortlisted: 4096, rescored: 1024 });
        assert!(tuned.is_outgrown(10_001) && !tuned.is_outgrown(10_000));
    }
}
