//! Gather: the documents in the posting lists of the probed centroids that the filter lets through.

use roaring::RoaringTreemap;

use super::{Prefilter, SearchParams, probe};
use crate::backend::EncodedQuery;
use crate::ids::DocOrd;
use crate::index::LiveShard;

/// How many times as many centroids are probed when the first ones gave too little.
const WIDEN: usize = 4;

/// Candidates of one shard, ascending.
pub(super) struct Candidates<'a> {
    pub(super) live: &'a LiveShard,
    pub(super) docs: Vec<DocOrd>,
}

/// The candidates of a shard. Where the documents that may be found are within the budget anyway, all of them.
pub(super) fn candidates<'a>(live: &'a LiveShard, query: &EncodedQuery, params: &SearchParams) -> Candidates<'a> {
    let allowed = Allowed::new(live, &params.filter);
    let docs = if allowed.count() <= params.rescored.max(params.k) {
        allowed.all()
    } else {
        gather(live, query, params, &allowed).all()
    };
    Candidates { live, docs }
}

/// The allowed documents of the probed centroids. Where a filter leaves fewer than the budget holds, more centroids
/// are probed: the budget is there to be used.
fn gather(live: &LiveShard, query: &EncodedQuery, params: &SearchParams, allowed: &Allowed) -> Allowed {
    let centroids = live.shard.codec().centroid_count();
    let mut probes = params.probes.min(centroids);
    loop {
        let mut found = BitSet::new(live.shard.doc_count());
        for centroid in probe::probe(query, probes) {
            live.shard.postings(centroid).iter().for_each(|&doc| found.insert(doc));
        }
        found.intersect(&allowed.0);
        let found = Allowed(found);
        if probes == centroids || found.count() >= params.rescored.max(params.k) {
            return found;
        }
        probes = (probes * WIDEN).min(centroids);
    }
}

/// The documents of a shard that are alive and pass the filter.
struct Allowed(BitSet);

impl Allowed {
    fn new(live: &LiveShard, filter: &Prefilter) -> Self {
        let docs = live.shard.doc_count();
        let mut set = match filter {
            Prefilter::None => BitSet::full(docs),
            Prefilter::Only(ids) => of_ids(live, ids),
            Prefilter::Except(ids) => {
                let mut set = BitSet::full(docs);
                of_ids(live, ids).iter().for_each(|doc| set.remove(doc));
                set
            }
        };
        live.deleted.iter().for_each(|doc| set.remove(doc));
        Self(set)
    }

    fn count(&self) -> usize {
        self.0.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    fn all(&self) -> Vec<DocOrd> {
        self.0.iter().map(DocOrd).collect()
    }
}

/// The positions of `ids` in the shard: looked up one by one, or met in one pass, whichever is shorter.
fn of_ids(live: &LiveShard, ids: &RoaringTreemap) -> BitSet {
    let shard = &live.shard;
    let mut set = BitSet::new(shard.doc_count());
    if ids.len() < shard.doc_count() as u64 / 16 {
        ids.iter().filter_map(|id| shard.find(crate::DocId(id))).for_each(|ord| set.insert(ord.0));
    } else {
        let own = shard.doc_ids().iter().zip(0u32..);
        own.filter(|&(&id, _)| ids.contains(id)).for_each(|(_, ord)| set.insert(ord));
    }
    set
}

/// A plain bit set over a shard's documents.
struct BitSet {
    words: Vec<u64>,
}

impl BitSet {
    fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)] }
    }

    fn full(len: usize) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(64)];
        if let Some(last) = words.last_mut()
            && !len.is_multiple_of(64)
        {
            *last = (1 << (len % 64)) - 1;
        }
        Self { words }
    }

    fn insert(&mut self, at: u32) {
        self.words[at as usize / 64] |= 1 << (at % 64);
    }

    fn remove(&mut self, at: u32) {
        self.words[at as usize / 64] &= !(1 << (at % 64));
    }

    fn intersect(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let bit = left.trailing_zeros();
                    left &= left - 1;
                    at as u32 * 64 + bit
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_sets_hold_what_was_put_in() {
        let mut set = BitSet::full(130);
        assert_eq!(set.iter().count(), 130);
        set.remove(64);
        let mut other = BitSet::new(130);
        [0, 64, 129].into_iter().for_each(|i| other.insert(i));
        other.intersect(&set);
        assert_eq!(other.iter().collect::<Vec<_>>(), [0, 129]);
    }
}
