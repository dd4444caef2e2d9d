//! What a search is asked, and what it answers.

use std::time::Duration;

use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::ids::DocId;

/// A found document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The caller's key.
    pub doc: DocId,
    /// MaxSim: for each query row the largest dot product with a token, summed.
    pub score: f32,
}

/// Which documents may be found.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Prefilter {
    /// All.
    #[default]
    None,
    /// These alone.
    Only(RoaringTreemap),
    /// All but these.
    Except(RoaringTreemap),
}

/// Every knob of a search.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SearchParams {
    /// Hits wanted, at least 1.
    pub k: usize,
    /// Centroids that each query row probes, at least 1.
    pub probes: usize,
    /// Documents, of those gathered, that are ranked by all their tokens' centroids; raised to `rescored` where it is
    /// smaller.
    pub shortlisted: usize,
    /// Documents scored on their compressed tokens at most; raised to `k` where it is smaller.
    pub rescored: usize,
    /// Scoring stops before `rescored` where the best document left would have to gain, over its score by outlines,
    /// this many standard deviations more than the mean of those scored. Infinity never stops.
    pub confidence: f32,
    /// Documents scored once more with their fine codes, in an index that has them; `None` takes a quarter and 8 more
    /// than `k`. 0 leaves fine codes alone.
    pub refined: Option<usize>,
    /// Which documents may be found.
    pub filter: Prefilter,
    /// Whether to score every document that may be found, whatever the budgets say: the hits are then the best of the
    /// collection for certain, as far as its compressed tokens tell.
    pub exhaustive: bool,
}

impl Default for SearchParams {
    fn default() -> Self {
        Self {
            k: 10,
            probes: 8,
            shortlisted: 4096,
            rescored: 1024,
            confidence: 3.0,
            refined: None,
            filter: Prefilter::None,
            exhaustive: false,
        }
    }
}

impl SearchParams {
    /// The defaults, for `k` hits.
    pub fn new(k: usize) -> Self {
        Self { k, ..Self::default() }
    }

    pub(super) fn check(&self) -> Result<()> {
        let positive = |name, value: usize| match value {
            0 => Err(Error::BadParameter { name, value: "0".into(), expected: "at least 1" }),
            _ => Ok(()),
        };
        positive("k", self.k)?;
        positive("probes", self.probes)?;
        if self.confidence.is_nan() {
            let value = self.confidence.to_string();
            return Err(Error::BadParameter { name: "confidence", value, expected: "a number" });
        }
        Ok(())
    }

    /// Documents to be refined, in an index with fine codes.
    pub(super) fn refined(&self) -> usize {
        match self.refined.unwrap_or(self.k.saturating_add(self.k / 4 + 8)) {
            0 => 0,
            refined => refined.max(self.k),
        }
    }
}

/// Time spent in each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Timings {
    /// Bringing the query into the codecs' spaces and scoring their centroids.
    pub centroids: Duration,
    /// Choosing centroids and gathering the documents in their posting lists.
    pub gather: Duration,
    /// Ranking candidates by their tokens' outlines: centroid and scale.
    pub prune: Duration,
    /// Scoring on compressed tokens.
    pub rescore: Duration,
    /// Scoring with fine codes.
    pub refine: Duration,
}

impl Timings {
    /// All stages together.
    pub fn total(&self) -> Duration {
        self.centroids + self.gather + self.prune + self.rescore + self.refine
    }
}

/// What a search found, and how.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SearchResult {
    /// Best first; equal scores in the order of the keys.
    pub hits: Vec<Hit>,
    /// Documents gathered.
    pub candidates: usize,
    /// Documents scored on their compressed tokens.
    pub rescored: usize,
    /// Documents scored once more with their fine codes.
    pub refined: usize,
    /// Whether every candidate was scored: then the hits are the best of the candidates for certain.
    pub exact_among_candidates: bool,
    /// Where the time went.
    pub timings: Timings,
}

/// How a query row meets a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alignment {
    /// Position of the token that it meets best.
    pub token: usize,
    /// Their dot product.
    pub score: f32,
}

impl Alignment {
    /// The token of `[n, d]` with the largest dot product with `row`, the first of equals.
    pub(super) fn best(row: &[f32], tokens: &[f32]) -> Self {
        let mut best = Self { token: 0, score: f32::NEG_INFINITY };
        for (token, values) in tokens.chunks_exact(row.len()).enumerate() {
            let score = row.iter().zip(values).map(|(a, b)| a * b).sum();
            if score > best.score {
                best = Self { token, score };
            }
        }
        best
    }
}
