//! What became of the candidates, stage by stage.

use serde::Serialize;

use crate::candidate::Candidate;

/// Candidates that count as being on top.
const TOP: usize = 10;

/// What a pipeline did with one query.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// In the order of the pipeline; those left out are here too, and say why.
    pub stages: Vec<StageReport>,
    /// Of the candidates that ended up on top, the first ten at most, the mean of how many places each rose from where it came:
    /// negative if they fell.
    pub mean_lift: f64,
    /// How many of them were not among as many before.
    pub newcomers: usize,
}

/// What a stage did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// Candidates that it was given.
    pub candidates: usize,
    /// Those that it let through.
    pub kept: usize,
    /// How many of them it found in the cache.
    pub cached: usize,
    /// Milliseconds.
    pub ms: f64,
    /// Of those kept, how many it moved to another place.
    pub moved: usize,
    /// The scores that it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<Distribution>,
    /// Why it did nothing, or less than it should, or what is odd; absent where all went well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Whether that is because a language model failed: the note then may say what its endpoint answered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// Of many scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// The least.
    pub least: f32,
    /// Half are less.
    pub median: f32,
    /// The most.
    pub most: f32,
    /// The best less the second.
    pub margin: f32,
}

/// What a stage is going to cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Estimate {
    /// Its name.
    pub name: String,
    /// Candidates that it will be given.
    pub candidates: usize,
    /// Milliseconds, as measured in this process, or as is usual before anything was.
    pub ms: f64,
    /// Requests to a language model.
    pub requests: usize,
    /// Whether a latency budget leaves it out.
    pub dropped: bool,
    /// Whether it needs more requests than its `max_requests`: it will fail, and the order stays.
    pub refused: bool,
}

impl Distribution {
    /// Of `scores`, in any order; none of none.
    pub fn of(scores: &[f32]) -> Option<Self> {
        let mut sorted = scores.to_vec();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let (&most, &least) = (sorted.first()?, sorted.last()?);
        let margin = sorted.get(1).map_or(0.0, |second| most - second);
        Some(Self { least, median: sorted[sorted.len() / 2], most, margin })
    }
}

impl Report {
    /// Says how far those of `left` that are on top were moved.
    pub fn finish(&mut self, left: &[Candidate]) {
        let left = &left[..left.len().min(TOP)];
        let places = left.iter().enumerate().map(|(place, candidate)| candidate.came_as as f64 - place as f64);
        // An empty sum is minus zero.
        self.mean_lift = places.sum::<f64>() / left.len().max(1) as f64 + 0.0;
        self.newcomers = left.iter().filter(|candidate| candidate.came_as >= left.len()).count();
    }
}
