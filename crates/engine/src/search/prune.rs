//! Prune: candidates ranked by all their tokens' outlines, cut to a budget. The budget is one for all shards: their scores
//! are comparable, being of the same query.
//!
//! PLAID (section 4.3, centroid interaction) takes a token for its centroid. Its scale says besides how far it lies off, and
//! that changes what its score is likely to be ([`crate::EncodedQuery`], `estimates`).

use super::Queries;
use super::shortlist::{Candidate, Shortlist, by_shard};
use crate::backend::CpuBackend;
use crate::error::Result;
use crate::ids::DocOrd;
use crate::index::LiveShard;

/// The best `budget` candidates, with their scores; those that fit the budget as they are keep theirs.
pub(super) fn prune(
    backend: &CpuBackend,
    shards: &[LiveShard],
    queries: &Queries,
    candidates: Vec<Candidate>,
    budget: usize,
) -> Result<Vec<Candidate>> {
    if candidates.len() <= budget {
        return Ok(candidates);
    }
    let mut kept = Shortlist::new(budget);
    for (at, run) in by_shard(&candidates) {
        let docs: Vec<DocOrd> = run.iter().map(|c| c.doc).collect();
        let mut scores = vec![0.0; docs.len()];
        backend.approximate(&shards[at].shard, &queries[&shards[at].entry.codec], &docs, &mut scores)?;
        run.iter().zip(scores).for_each(|(candidate, score)| kept.push(Candidate { score, ..*candidate }));
    }
    Ok(kept.into_candidates())
}
