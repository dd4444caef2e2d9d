//! Rescore: MaxSim on compressed tokens, without decompressing them to floats (kernels in `latewood-simd`).
//!
//! Candidates come best first, by their scores from outlines, and a batch at a time. How far the scores of those
//! done lie from what their outlines promised says how far the others may: when the best of them would have to be an
//! outlier to enter, they are left alone. A query with a clear answer so ends early, a hard one uses its budget.

use super::shortlist::{Candidate, by_shard};
use super::{Hit, Queries, TopK, of_codec};
use crate::backend::CpuBackend;
use crate::error::Result;
use crate::ids::DocOrd;
use crate::index::LiveShard;

/// Candidates scored before the first look at what they tell, and between looks.
const BATCH: usize = 128;

/// A document, scored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scored {
    pub(super) hit: Hit,
    pub(super) at: Candidate,
}

impl AsRef<Hit> for Scored {
    fn as_ref(&self) -> &Hit {
        &self.hit
    }
}

/// Which candidates to score, and how many to keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// How many are wanted.
    pub(super) keep: usize,
    /// How many standard deviations make an outlier; `None` where candidates have no score yet and all are scored.
    pub(super) confidence: Option<f32>,
}

/// The best of the candidates, best first, and how many were scored.
pub(super) fn rescore(
    backend: &CpuBackend,
    shards: &[LiveShard],
    queries: &mut Queries,
    mut candidates: Vec<Candidate>,
    plan: Plan,
) -> Result<(Vec<Scored>, usize)> {
    let mut best = TopK::new(plan.keep);
    let Some(confidence) = plan.confidence else {
        score(backend, shards, queries, &candidates, |scored| best.push(scored))?;
        return Ok((best.into_sorted(), candidates.len()));
    };
    candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then((a.shard, a.doc).cmp(&(b.shard, b.doc))));
    let mut gains = Gains::default();
    let (mut left, mut done) = (&mut candidates[..], 0);
    while let Some(next) = left.first() {
        if best.least().is_some_and(|least| next.score + gains.at_most(confidence) < least) {
            break;
        }
        let (batch, rest) = left.split_at_mut(BATCH.min(left.len()));
        // In the order they lie in the shards, so that memory is read forwards.
        batch.sort_unstable_by_key(|c| (c.shard, c.doc));
        score(backend, shards, queries, batch, |scored| {
            gains.add(scored.hit.score - scored.at.score);
            best.push(scored);
        })?;
        done += batch.len();
        left = rest;
    }
    Ok((best.into_sorted(), done))
}

fn score(
    backend: &CpuBackend,
    shards: &[LiveShard],
    queries: &mut Queries,
    candidates: &[Candidate],
    mut each: impl FnMut(Scored),
) -> Result<()> {
    for (at, run) in by_shard(candidates) {
        let shard = &shards[at].shard;
        let docs: Vec<DocOrd> = run.iter().map(|c| c.doc).collect();
        let mut scores = vec![0.0; docs.len()];
        let query = of_codec(queries, &shards[at]);
        query.meet(backend, shard, &docs)?;
        backend.score(shard, query, &docs, &mut scores)?;
        let scored = run.iter().zip(scores);
        scored.for_each(|(&at, score)| each(Scored { hit: Hit { doc: shard.doc_id(at.doc), score }, at }));
    }
    Ok(())
}

/// How much scores gain over those by outlines.
#[derive(Debug, Default)]
struct Gains {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Gains {
    fn add(&mut self, gain: f32) {
        let gain = f64::from(gain);
        self.count += 1.0;
        self.sum += gain;
        self.squares += gain * gain;
    }

    /// The mean and so many standard deviations; infinite before there are any.
    fn at_most(&self, deviations: f32) -> f32 {
        if self.count == 0.0 || deviations == f32::INFINITY {
            return f32::INFINITY;
        }
        let mean = self.sum / self.count;
        let deviation = (self.squares / self.count - mean * mean).max(0.0).sqrt();
        (mean + f64::from(deviations) * deviation) as f32
    }
}
