//! Rescore: MaxSim on compressed tokens, without decompressing them to floats (kernels in `latewood-simd`).

use super::shortlist::{Candidate, by_shard};
use super::{Hit, Queries, TopK};
use crate::backend::Backend;
use crate::ids::DocOrd;
use crate::index::LiveShard;

/// The best `k` of the candidates.
pub(super) fn rescore(
    backend: &dyn Backend,
    shards: &[LiveShard],
    queries: &Queries,
    candidates: &[Candidate],
    k: usize,
) -> Vec<Hit> {
    let mut best = TopK::new(k);
    for (at, run) in by_shard(candidates) {
        let shard = &shards[at].shard;
        let docs: Vec<DocOrd> = run.iter().map(|c| c.doc).collect();
        let mut scores = vec![0.0; docs.len()];
        backend.score(shard, &queries[&shards[at].entry.codec], &docs, &mut scores);
        docs.iter().zip(scores).for_each(|(&doc, score)| best.push(Hit { doc: shard.doc_id(doc), score }));
    }
    best.into_sorted()
}
