//! A search on the device.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cubecl::prelude::Runtime;
use latewood_engine::{DocOrd, Plan, Ranked, Ranking, ResidualCodec};

use super::resident::{Part, Resident};
use super::worker::{Failure, Search, Target};
use crate::client::{Buffer, Client, GpuError};
use crate::cube::{BestOfRows, MAX_TOP, Top, outline, residual, table, top};
use crate::layout::{Codec, Queries, Table};

/// Queries scored together at most: each takes a score a document.
const BATCH: usize = 64;
/// Their rows at most, but for those of one query: each takes a score a centroid.
const BATCH_ROWS: usize = 1024;

/// Which kernel scores.
#[derive(Clone, Copy)]
enum By {
    Outlines,
    Codes,
}

pub(super) fn search<R: Runtime>(resident: &mut Resident<R>, job: &Search) -> Result<Vec<Ranking>, Failure> {
    resident.begin();
    let candidates: usize = job.targets.iter().map(Target::count).sum();
    let targets: Vec<(usize, &Target)> = job.targets.iter().enumerate().filter(|(_, t)| t.count() > 0).collect();
    if job.plan.rescored < candidates {
        return job.queries.iter().map(|query| chosen(resident, &targets, query, job.plan)).collect();
    }
    let most = targets.iter().map(|(_, target)| target.count()).max().unwrap_or(1);
    let fits = (resident.client().limits().allocation / (4 * most as u64)).clamp(1, BATCH as u64) as usize;
    let mut rankings = Vec::with_capacity(job.queries.len());
    let mut left = &job.queries[..];
    while !left.is_empty() {
        let start = Instant::now();
        let (queries, others) = left.split_at(together(left, job.dim, fits));
        left = others;
        let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
        let found = ranked(resident, &targets, &mut Batches::new(&queries), By::Codes, job.plan.keep)?;
        let rescore = start.elapsed();
        let ranking = |best| Ranking { best, rescored: candidates, prune: Duration::ZERO, rescore };
        rankings.extend(found.into_iter().map(ranking));
    }
    Ok(rankings)
}

/// How many of the first of `queries` are scored together, one at least and `most` at most.
fn together(queries: &[Vec<f32>], dim: usize, most: usize) -> usize {
    let ends = queries.iter().scan(0, |rows, query| {
        *rows += query.len() / dim;
        Some(*rows)
    });
    ends.take(most).take_while(|&rows| rows <= BATCH_ROWS).count().max(1)
}

/// The best by their codes of the best by their outlines.
fn chosen<R: Runtime>(
    resident: &mut Resident<R>,
    targets: &[(usize, &Target)],
    query: &[f32],
    plan: Plan,
) -> Result<Ranking, Failure> {
    let start = Instant::now();
    let queries = [query];
    let mut batches = Batches::new(&queries);
    let kept = ranked(resident, targets, &mut batches, By::Outlines, plan.rescored)?.swap_remove(0);
    let prune = start.elapsed();
    let narrowed: Vec<(usize, Target)> = targets
        .iter()
        .map(|&(at, target)| {
            let mut docs: Vec<u32> = kept.iter().filter(|r| r.shard == at).map(|r| r.doc.0).collect();
            docs.sort_unstable();
            (at, Target { shard: target.shard.clone(), docs: Some(docs) })
        })
        .filter(|(_, target)| target.count() > 0)
        .collect();
    let narrowed: Vec<(usize, &Target)> = narrowed.iter().map(|(at, target)| (*at, target)).collect();
    let best = ranked(resident, &narrowed, &mut batches, By::Codes, plan.keep)?.swap_remove(0);
    Ok(Ranking { best, rescored: kept.len(), prune, rescore: start.elapsed() - prune })
}

/// The `keep` best documents of all targets for each query.
fn ranked<R: Runtime>(
    resident: &mut Resident<R>,
    targets: &[(usize, &Target)],
    batches: &mut Batches<'_>,
    by: By,
    keep: usize,
) -> Result<Vec<Vec<Ranked>>, Failure> {
    let client = resident.client().clone();
    let mut best = vec![Vec::new(); batches.queries.len()];
    let mut waiting = Vec::new();
    for &(at, target) in targets {
        let batch = batches.of(resident, target.shard.codec())?;
        let there = resident.shard(&target.shard)?;
        for (number, part) in there.parts.iter().enumerate() {
            let docs = Docs::new(&client, part, target)?;
            let buffer = docs.listed.as_ref().map_or(&part.all, |(_, buffer)| buffer);
            if buffer.is_empty() {
                continue;
            }
            let score = match by {
                By::Outlines => outline,
                By::Codes => residual,
            };
            let scores = score(&client, &batch.codec, &part.tokens, &batch.queries, &batch.table, buffer)?;
            let top = Best::new(&client, scores, buffer.len(), keep)?;
            waiting.push((at, there.parts.clone(), number, docs, top));
        }
        if !there.stays {
            // Before the next one takes its place.
            drop(there);
            collect(&client, &mut waiting, &mut best)?;
            client.release()?;
        }
    }
    collect(&client, &mut waiting, &mut best)?;
    for best in &mut best {
        best.sort_unstable_by(|a: &Ranked, b| {
            (b.score + 0.0).total_cmp(&(a.score + 0.0)).then((a.shard, a.doc).cmp(&(b.shard, b.doc)))
        });
        best.truncate(keep);
    }
    Ok(best)
}

type Waiting = (usize, Rc<Vec<Part>>, usize, Docs, Best);

/// Reads what was launched.
fn collect<R: Runtime>(
    client: &Client<R>,
    waiting: &mut Vec<Waiting>,
    best: &mut [Vec<Ranked>],
) -> Result<(), GpuError> {
    let found = Best::read_all(client, &waiting.iter().map(|(.., best)| best).collect::<Vec<_>>())?;
    for ((shard, parts, number, docs, _), found) in waiting.drain(..).zip(found) {
        let first = parts[number].docs.start as u32;
        let count = docs.listed.as_ref().map_or(parts[number].docs.len(), |(listed, _)| listed.len());
        for (best, found) in best.iter_mut().zip(found) {
            let place = |position: u32| docs.listed.as_ref().map_or(position, |(listed, _)| listed[position as usize]);
            // Scores that are no numbers leave places without a document.
            if let Some((position, _)) = found.iter().find(|(position, _)| *position as usize >= count) {
                return Err(GpuError::Failed(format!("it ranked document {position} of {count}")));
            }
            best.extend(found.into_iter().map(|(position, score)| Ranked {
                shard,
                doc: DocOrd(first + place(position)),
                score,
            }));
        }
    }
    Ok(())
}

/// The documents of a part that may be found, counted from its first; `None` is all.
struct Docs {
    listed: Option<(Vec<u32>, Buffer<u32>)>,
}

impl Docs {
    fn new<R: Runtime>(client: &Client<R>, part: &Part, target: &Target) -> Result<Self, GpuError> {
        let Some(docs) = &target.docs else { return Ok(Self { listed: None }) };
        let at = |end: usize| docs.partition_point(|&doc| (doc as usize) < end);
        let own = &docs[at(part.docs.start)..at(part.docs.end)];
        let own: Vec<u32> = own.iter().map(|doc| doc - part.docs.start as u32).collect();
        let buffer = client.upload("documents", &own)?;
        Ok(Self { listed: Some((own, buffer)) })
    }
}

/// The best scores of a launch: chosen by the device or, where more are wanted than it chooses, here.
enum Best {
    Top(Top),
    Scores { scores: Buffer<f32>, n: usize, keep: usize },
}

impl Best {
    fn new<R: Runtime>(client: &Client<R>, scores: Buffer<f32>, n: usize, keep: usize) -> Result<Self, GpuError> {
        match keep.min(n) {
            keep @ 0..=MAX_TOP => top(client, &scores, n, keep).map(Self::Top),
            keep => Ok(Self::Scores { scores, n, keep }),
        }
    }

    /// Of each, for each query, positions and scores.
    fn read_all<R: Runtime>(client: &Client<R>, all: &[&Self]) -> Result<Vec<BestOfRows>, GpuError> {
        let tops = all.iter().filter_map(|best| if let Self::Top(top) = best { Some(top) } else { None });
        let mut tops = Top::read_all(client, &tops.collect::<Vec<_>>())?.into_iter();
        let read = |best: &&Self| match best {
            Self::Top(_) => Ok(tops.next().unwrap_or_default()),
            Self::Scores { scores, n, keep } => {
                let scores = client.read(scores)?;
                Ok(scores.chunks_exact(*n).map(|row| best_of(row, *keep)).collect())
            }
        };
        all.iter().map(read).collect()
    }
}

/// The `keep` best scores and their positions, in any order. Zeros are equal, as on the device: hence what is added.
fn best_of(scores: &[f32], keep: usize) -> Vec<(u32, f32)> {
    let mut row: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).collect();
    if keep < row.len() {
        row.select_nth_unstable_by(keep, |a, b| (b.1 + 0.0).total_cmp(&(a.1 + 0.0)).then(a.0.cmp(&b.0)));
        row.truncate(keep);
    }
    row
}

/// Queries in the space of a codec, and what its centroids score.
struct Batch {
    codec: Rc<Codec>,
    queries: Queries,
    table: Table,
}

/// The queries in the space of each codec met so far.
struct Batches<'a> {
    queries: &'a [&'a [f32]],
    done: HashMap<u64, Rc<Batch>>,
}

impl<'a> Batches<'a> {
    fn new(queries: &'a [&'a [f32]]) -> Self {
        Self { queries, done: HashMap::new() }
    }

    fn of<R: Runtime>(&mut self, resident: &mut Resident<R>, coder: &ResidualCodec) -> Result<Rc<Batch>, GpuError> {
        if let Some(batch) = self.done.get(&coder.digest()) {
            return Ok(batch.clone());
        }
        let codec = resident.codec(coder)?;
        let rotated: Vec<Vec<f32>> = self.queries.iter().map(|query| coder.rotated(query)).collect();
        let rotated: Vec<&[f32]> = rotated.iter().map(Vec::as_slice).collect();
        let queries = Queries::rotated(resident.client(), &codec, &rotated)?;
        let table = table(resident.client(), &codec, &queries)?;
        let batch = Rc::new(Batch { codec, queries, table });
        self.done.insert(coder.digest(), batch.clone());
        Ok(batch)
    }
}
