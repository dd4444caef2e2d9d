//! Gather: documents collect the scores of the probed centroids that they have a token at.
//!
//! Posting lists are read one after the other and add to the documents they name, as TACHIOM does (arXiv:2604.28142):
//! what is touched is the postings, not the tokens of every candidate. For each query row a document gets the score of
//! its best probed centroid, or the floor that no centroid left out is above; so the sum is the score by centroids
//! alone (PLAID's centroid interaction) with nothing missing but differences below the floors.

use std::borrow::Cow;

use super::allowed::Allowed;
use super::probe::{self, Probed};
use super::shortlist::{Candidate, Shortlist};
use crate::backend::{CpuBackend, EncodedQuery};
use crate::error::Result;
use crate::ids::DocOrd;
use crate::index::LiveShard;
use crate::shard::BLOCK_DOCS;

/// How many times as many centroids are probed when the first ones gave too little.
const WIDEN: usize = 4;
/// Bits of an accumulator that hold the score; those above say which row added last.
const SCORE_BITS: u32 = 19;
const SCORE_MASK: u32 = (1 << SCORE_BITS) - 1;

/// Documents that are looked at together.
const RUN: usize = 8;
/// Intervals of the histogram of sums.
const BUCKETS: usize = 1024;
const BUCKET_SHIFT: u32 = SCORE_BITS - BUCKETS.ilog2();

/// One number a document of a block, reused by all blocks.
#[derive(Debug)]
pub(super) struct Accumulators(Box<[u32; BLOCK_DOCS]>);

impl Default for Accumulators {
    fn default() -> Self {
        let zeros = vec![0; BLOCK_DOCS].into_boxed_slice();
        Self(zeros.try_into().unwrap_or_else(|_| unreachable!("the length is right")))
    }
}

/// Adds the documents of a shard that the probed centroids bring to `shortlist`; returns how many there were.
///
/// `probed` are those of the shard's codec, for all its shards. Where a filter leaves fewer than `wanted`, more centroids
/// are probed: the budget is there to be used.
pub(super) fn gather(
    (shard, live): (u32, &LiveShard),
    (backend, query, probed): (&CpuBackend, &mut EncodedQuery, &[Probed]),
    (probes, wanted): (usize, usize),
    allowed: &Allowed,
    accumulators: &mut Accumulators,
    shortlist: &mut Shortlist,
) -> Result<usize> {
    let codec = live.shard.codec();
    let centroids = codec.centroid_count();
    let mut probes = probes.min(centroids);
    let before = shortlist.clone();
    let mut probed = Cow::Borrowed(probed);
    loop {
        let mut found = 0;
        for block in 0..live.shard.blocks() {
            found += gather_block((shard, live), block, &probed, allowed, accumulators, shortlist)?;
        }
        if probes == centroids || found >= wanted.min(allowed.count()) {
            return Ok(found);
        }
        if query.centroids.is_partial() {
            query.meet_all(backend, codec);
        }
        probes = (probes * WIDEN).min(centroids);
        probed = Cow::Owned(probe::probe(query, probes));
        shortlist.clone_from(&before);
    }
}

fn gather_block(
    (shard, live): (u32, &LiveShard),
    block: usize,
    probed: &[Probed],
    allowed: &Allowed,
    accumulators: &mut Accumulators,
    shortlist: &mut Shortlist,
) -> Result<usize> {
    let first = block * BLOCK_DOCS;
    let docs = (live.shard.doc_count() - first).min(BLOCK_DOCS);
    let sums = &mut *accumulators.0;
    sums[..docs].fill(0);
    // All scores together fit the bits: each is rounded down.
    let most: f32 = probed.iter().filter_map(|row| row.centroids.first()).map(|&(_, gain)| gain).sum();
    let steps = SCORE_MASK as f32 / most;
    // All scores alike, or of rows so short that they tell nothing apart.
    let steps = if steps.is_finite() { steps } else { 0.0 };
    for (row, stamp) in probed.iter().zip(1u32..) {
        let stamp = stamp << SCORE_BITS;
        for &(centroid, gain) in &row.centroids {
            let add = (gain * steps) as u32;
            for &doc in live.shard.postings(block, centroid)? {
                let sum = &mut sums[usize::from(doc)];
                // Best first: who has this row's stamp has a better score from it.
                let added = stamp | ((*sum & SCORE_MASK) + add).min(SCORE_MASK);
                *sum = if *sum < stamp { added } else { *sum };
            }
        }
    }
    allowed.clear_others(first as u32, &mut sums[..docs]);
    let floor = probed.iter().map(|row| row.floor).sum();
    let step = if steps > 0.0 { 1.0 / steps } else { 0.0 };
    Ok(shortlist_best(&sums[..docs], (floor, step), (shard, first as u32), shortlist))
}

/// Pushes what may belong to the shortlist; returns how many documents collected anything. Whole runs of documents are
/// passed over, without a branch for each.
fn shortlist_best(
    sums: &[u32],
    (floor, step): (f32, f32),
    (shard, first): (u32, u32),
    shortlist: &mut Shortlist,
) -> usize {
    let least = match shortlist.threshold() {
        // One step less, as scores are rounded.
        Some(threshold) if step > 0.0 => ((threshold - floor) / step - 1.0).max(0.0) as u32,
        _ => least_of_best(sums, shortlist.budget()),
    };
    let mut found = 0;
    for (at, run) in (first..).step_by(RUN).zip(sums.chunks(RUN)) {
        found += run.iter().map(|&sum| u32::from(sum != 0)).sum::<u32>();
        if run.iter().fold(false, |any, &sum| any | (sum & SCORE_MASK >= least && sum != 0)) {
            for (doc, sum) in (at..).zip(run).filter(|&(_, &sum)| sum & SCORE_MASK >= least && sum != 0) {
                let score = floor + (sum & SCORE_MASK) as f32 * step;
                shortlist.push(Candidate { score, shard, doc: DocOrd(doc) });
            }
        }
    }
    // So that the next block has a threshold.
    shortlist.cut();
    found as usize
}

/// From which sum on there are at least `count`, by a histogram.
fn least_of_best(sums: &[u32], count: usize) -> u32 {
    let mut counts = [0u32; BUCKETS];
    sums.iter().for_each(|sum| counts[((sum & SCORE_MASK) >> BUCKET_SHIFT) as usize] += 1);
    let (mut bucket, mut above) = (BUCKETS, 0);
    while bucket > 0 && above < count {
        bucket -= 1;
        above += counts[bucket] as usize;
    }
    (bucket as u32) << BUCKET_SHIFT
}
