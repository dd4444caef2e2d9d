//! Prune: candidates ranked by their tokens' centroids alone, cut to a budget (PLAID, section 4.3, centroid
//! interaction). The budget is one for all shards: their scores are comparable, being of the same query.

use std::collections::HashMap;

use super::gather::Candidates;
use crate::backend::{Backend, EncodedQuery};
use crate::ids::{DocId, DocOrd};

/// Leaves the best `budget` candidates.
pub(super) fn prune(
    backend: &dyn Backend,
    queries: &HashMap<u64, EncodedQuery>,
    candidates: &mut [Candidates<'_>],
    budget: usize,
) {
    let found: usize = candidates.iter().map(|c| c.docs.len()).sum();
    if found <= budget {
        return;
    }
    let mut ranked: Vec<(f32, DocId, usize, DocOrd)> = Vec::with_capacity(found);
    for (shard, own) in candidates.iter().enumerate() {
        let mut scores = vec![0.0; own.docs.len()];
        backend.approximate(&own.live.shard, &queries[&own.live.entry.codec], &own.docs, &mut scores);
        let docs = scores.into_iter().zip(&own.docs);
        ranked.extend(docs.map(|(score, &doc)| (score, own.live.shard.doc_id(doc), shard, doc)));
    }
    ranked.select_nth_unstable_by(budget - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.truncate(budget);
    candidates.iter_mut().for_each(|own| own.docs.clear());
    for (_, _, shard, doc) in ranked {
        candidates[shard].docs.push(doc);
    }
    // In the order they lie in the shard, so that memory is read forwards.
    candidates.iter_mut().for_each(|own| own.docs.sort_unstable());
}
