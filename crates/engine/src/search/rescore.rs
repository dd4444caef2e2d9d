//! Rescore: MaxSim on compressed tokens, without decompressing them to floats (kernels in `latewood-simd`).

use std::collections::HashMap;

use super::gather::Candidates;
use super::{Hit, TopK};
use crate::backend::{Backend, EncodedQuery};

/// The best `k` of the candidates, and how many were scored.
pub(super) fn rescore(
    backend: &dyn Backend,
    queries: &HashMap<u64, EncodedQuery>,
    candidates: &[Candidates<'_>],
    k: usize,
) -> (Vec<Hit>, usize) {
    let mut best = TopK::new(k);
    let mut count = 0;
    for own in candidates {
        let shard = &own.live.shard;
        let mut scores = vec![0.0; own.docs.len()];
        backend.score(shard, &queries[&own.live.entry.codec], &own.docs, &mut scores);
        for (&doc, score) in own.docs.iter().zip(scores) {
            best.push(Hit { doc: shard.doc_id(doc), score });
        }
        count += own.docs.len();
    }
    (best.into_sorted(), count)
}
