//! Which documents of a shard may be found: those alive that pass the filter.

use roaring::RoaringTreemap;

use super::Prefilter;
use crate::ids::{DocId, DocOrd};
use crate::index::LiveShard;

/// The documents of a shard that are alive and pass the filter.
#[derive(Debug)]
pub(crate) struct Allowed {
    docs: usize,
    /// `None` is all.
    set: Option<BitSet>,
}

impl Allowed {
    pub(super) fn new(live: &LiveShard, filter: &Prefilter) -> Self {
        let docs = live.shard.doc_count();
        if *filter == Prefilter::None && live.deleted.is_empty() {
            return Self { docs, set: None };
        }
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
        Self { docs: set.count(), set: Some(set) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.docs
    }

    /// Sets the values of all other documents to 0; the first value is that of document `first`, a multiple of 64.
    pub(super) fn clear_others(&self, first: u32, values: &mut [u32]) {
        let Some(set) = &self.set else { return };
        for (word, values) in set.words[first as usize / 64..].iter().zip(values.chunks_mut(64)) {
            if *word != u64::MAX {
                values
                    .iter_mut()
                    .enumerate()
                    .for_each(|(bit, value)| *value &= 0u32.wrapping_sub((word >> bit & 1) as u32));
            }
        }
    }

    /// All of them, ascending.
    pub(crate) fn docs(&self) -> impl Iterator<Item = DocOrd> + '_ {
        let all = if self.set.is_none() { self.docs as u32 } else { 0 };
        (0..all).chain(self.set.iter().flat_map(BitSet::iter)).map(DocOrd)
    }
}

/// The positions of `ids` in the shard: looked up one by one, or met in one pass, whichever is shorter.
fn of_ids(live: &LiveShard, ids: &RoaringTreemap) -> BitSet {
    let shard = &live.shard;
    let mut set = BitSet::new(shard.doc_count());
    if ids.len() < shard.doc_count() as u64 / 16 {
        ids.iter().filter_map(|id| shard.find(DocId(id))).for_each(|ord| set.insert(ord.0));
    } else {
        let own = shard.doc_ids().iter().zip(0u32..);
        own.filter(|&(&id, _)| ids.contains(id)).for_each(|(_, ord)| set.insert(ord));
    }
    set
}

/// A plain bit set over a shard's documents.
#[derive(Debug)]
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

    fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
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
        assert_eq!((set.iter().count(), set.count()), (130, 130));
        set.remove(64);
        let mut values = vec![1; 66];
        Allowed { docs: 129, set: Some(set) }.clear_others(64, &mut values);
        assert_eq!(values, [vec![0], vec![1; 65]].concat());
        let mut other = BitSet::new(130);
        [0, 64, 129].into_iter().for_each(|i| other.insert(i));
        assert_eq!(other.iter().collect::<Vec<_>>(), [0, 64, 129]);
    }
}
