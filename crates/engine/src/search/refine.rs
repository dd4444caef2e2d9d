//! Refine: the best documents scored once more, with their fine codes.
//!
//! The codes choose: the exact best ten are, as far as we have measured, among the first twenty of a 4-bit ranking, but not
//! in their order. So the fine codes of a few documents more than wanted are read, and their scores are all but exact.

use super::rescore::Scored;
use super::shortlist::{Candidate, by_shard};
use super::{Hit, Queries, TopK};
use crate::backend::CpuBackend;
use crate::error::Result;
use crate::ids::DocOrd;
use crate::index::LiveShard;

/// The best `k` of `scored`.
pub(super) fn refine(
    backend: &CpuBackend,
    shards: &[LiveShard],
    queries: &Queries,
    scored: &[Scored],
    k: usize,
) -> Result<Vec<Hit>> {
    let mut candidates: Vec<Candidate> = scored.iter().map(|s| s.at).collect();
    candidates.sort_unstable_by_key(|c| (c.shard, c.doc));
    let mut best = TopK::new(k);
    for (at, run) in by_shard(&candidates) {
        let shard = &shards[at].shard;
        let docs: Vec<DocOrd> = run.iter().map(|c| c.doc).collect();
        let mut scores = vec![0.0; docs.len()];
        backend.refine(shard, &queries[&shards[at].entry.codec], &docs, &mut scores)?;
        docs.iter().zip(scores).for_each(|(&doc, score)| best.push(Hit { doc: shard.doc_id(doc), score }));
    }
    Ok(best.into_sorted())
}
