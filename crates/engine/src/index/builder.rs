//! Building shards: of the documents that wait, and of those whose codec the index has outgrown.
//!
//! Rows go through in batches, and codes to disk as they are made: memory holds a sample for training, then a batch, and
//! of the shard being written a few bytes a token.

use std::sync::Arc;

use half::f16;

use super::budget::Budget;
use super::manifest::CodecEntry;
use super::spool::{SpoolReader, append_f32};
use super::writer::{next_file, open_shard};
use super::{LiveShard, Progress, Snapshot, Stage, policy};
use crate::backend::Backend;
use crate::codec::{self, ResidualCodec, Sample, Sampler, Shape};
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::ids::{DocId, DocOrd};
use crate::shard::ShardWriter;

/// Where a build runs, and within what.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) directory: &'a dyn Directory,
    pub(super) backend: &'a dyn Backend,
    pub(super) progress: &'a dyn Progress,
    pub(super) budget: Budget,
}

/// Adds shards of the waiting documents, and of the live ones of `outgrown`, to `next`: of `codec`, or of a new one.
pub(super) fn build(
    site: Site<'_>,
    next: &mut Snapshot,
    codec: Option<Arc<ResidualCodec>>,
    waiting: &SpoolReader<'_>,
    outgrown: &[LiveShard],
) -> Result<()> {
    // Of deleted documents nothing is coded: a sample chosen from their tokens too might hold none of the others.
    let total = waiting.rows() + outgrown.iter().map(LiveShard::live_tokens).sum::<u64>();
    let codec = match codec {
        Some(codec) => codec,
        None => {
            let mut sampler = Sampler::new(total, next.manifest.dim, next.manifest.seed, site.budget.sample_bytes);
            let sample = sample(waiting, outgrown, &mut sampler)?;
            train(site, next, sample, total)?
        }
    };
    let batch = Batch { docs: Vec::new(), rows: Vec::new() };
    let mut builder = Builder { site, next, codec, batch, shard: None, done: 0, total };
    waiting.for_each(|doc, rows, _| builder.add(doc, |out| append_f32(rows, out)))?;
    builder.finish_shard()?;
    for (doc, live, ord) in in_order(outgrown)? {
        let rows = live.shard.decode(ord)?;
        builder.add(doc, |out| out.extend(rows))?;
    }
    builder.finish_shard()
}

/// The live documents of all `shards`, ascending, and where each lies.
///
/// # Errors
/// When one is alive twice.
pub(super) fn in_order(shards: &[LiveShard]) -> Result<Vec<(DocId, &LiveShard, DocOrd)>> {
    let docs = shards.iter().flat_map(|live| live.docs().map(move |ord| (live.shard.doc_id(ord), live, ord)));
    let mut docs: Vec<_> = docs.collect();
    docs.sort_unstable_by_key(|&(doc, ..)| doc);
    match docs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(twice) => Err(twice[1].1.alive_twice(twice[1].0)),
        None => Ok(docs),
    }
}

/// The codec of `snapshot` whose centroids the waiting documents lie nearest to, unless they lie far from all: then they
/// are of another kind than what there is, and get a codec of their own. A few documents never do.
pub(super) fn fitting_codec(
    backend: &dyn Backend,
    snapshot: &Snapshot,
    waiting: &SpoolReader<'_>,
) -> Result<Option<Arc<ResidualCodec>>> {
    let many = waiting.rows() >= policy::DRIFT_TOKENS;
    if let ([only], false) = (&snapshot.manifest.codecs[..], many) {
        return Ok(snapshot.codecs.get(&only.digest).cloned());
    }
    let manifest = &snapshot.manifest;
    let mut sampler = Sampler::small(waiting.rows(), policy::DRIFT_TOKENS, manifest.dim, manifest.seed);
    let sample = sample(waiting, &[], &mut sampler)?.rows;
    let distance = |codec: Arc<ResidualCodec>| {
        let sum = codec.encode(backend, &sample)?.scale_sum(codec.scales());
        Ok((sum, codec))
    };
    // In the order of the manifest: of equals, the first.
    let codecs = manifest.codecs.iter().filter_map(|entry| snapshot.codecs.get(&entry.digest).cloned());
    let nearest = codecs.map(distance).collect::<Result<Vec<_>>>()?.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let fits = |(sum, codec): &(f64, Arc<ResidualCodec>)| {
        !many || !policy::has_drifted(codec, *sum, sample.len() / manifest.dim)
    };
    Ok(nearest.filter(fits).map(|(_, codec)| codec))
}

/// A sample of all that is to be coded. Shards do not say which tokens theirs were.
fn sample(waiting: &SpoolReader<'_>, outgrown: &[LiveShard], sampler: &mut Sampler) -> Result<Sample> {
    let (mut sample, dim) = (Sample::new(), sampler.dim());
    waiting.for_each(|_, rows: &[f16], ids| {
        for (at, row) in rows.chunks_exact(dim).enumerate() {
            if sampler.take() {
                append_f32(row, &mut sample.rows);
                sample.push_id(ids.map(|ids| ids[at]));
            }
        }
        Ok(())
    })?;
    for live in outgrown {
        for ord in live.docs() {
            for row in live.shard.decode(ord)?.chunks_exact(dim) {
                if sampler.take() {
                    sample.rows.extend_from_slice(row);
                    sample.push_id(None);
                }
            }
        }
    }
    Ok(sample)
}

/// Trains a codec on `sample`, for an index of `total` tokens, writes it, and takes it into `next`.
pub(super) fn train(site: Site<'_>, next: &mut Snapshot, sample: Sample, total: u64) -> Result<Arc<ResidualCodec>> {
    let Site { directory, backend, progress, .. } = site;
    let manifest = &mut next.manifest;
    let shape = Shape { dim: manifest.dim, bits: manifest.bits, fine: manifest.fine };
    let parts = codec::train(sample, shape, total, manifest.seed, backend, |done, of| {
        progress.report(Stage::Train, done as u64, of as u64);
        !progress.cancelled()
    })?;
    let file = next_file(&mut manifest.next_file, "codec", "lwc");
    ResidualCodec::write(directory, &file, &parts)?;
    let codec = ResidualCodec::open(directory, &file)?;
    manifest.codecs.push(CodecEntry { file, digest: codec.digest() });
    next.codecs.insert(codec.digest(), codec.clone());
    Ok(codec)
}

/// Codes documents, which come in ascending order, into one shard after the other.
struct Builder<'a> {
    site: Site<'a>,
    next: &'a mut Snapshot,
    codec: Arc<ResidualCodec>,
    batch: Batch,
    /// The shard being written, and its file.
    shard: Option<(ShardWriter, String)>,
    done: u64,
    total: u64,
}

/// Documents that wait to be coded together.
struct Batch {
    /// Each with its number of rows.
    docs: Vec<(DocId, usize)>,
    rows: Vec<f32>,
}

impl Builder<'_> {
    /// Adds a document, whose rows `append` brings.
    fn add(&mut self, doc: DocId, append: impl FnOnce(&mut Vec<f32>)) -> Result<()> {
        let before = self.batch.rows.len();
        append(&mut self.batch.rows);
        self.batch.docs.push((doc, (self.batch.rows.len() - before) / self.codec.dim()));
        if self.batch.rows.len() < self.site.budget.code_tokens * self.codec.dim() {
            return Ok(());
        }
        self.code()?;
        let full = self.shard.as_ref().is_some_and(|(shard, _)| shard.token_count() >= self.site.budget.shard_tokens);
        if full { self.finish_shard() } else { Ok(()) }
    }

    fn code(&mut self) -> Result<()> {
        if self.batch.docs.is_empty() {
            return Ok(());
        }
        if self.site.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let coded = self.codec.encode(self.site.backend, &self.batch.rows)?;
        self.batch.rows.clear();
        let mut start = 0;
        for (doc, len) in std::mem::take(&mut self.batch.docs) {
            let (shard, _) = match &mut self.shard {
                Some(shard) => shard,
                none => {
                    let name = next_file(&mut self.next.manifest.next_file, "shard", "lws");
                    none.insert((ShardWriter::create(self.site.directory, &name, self.codec.clone())?, name))
                }
            };
            shard.add(doc, &coded.tokens(&self.codec, start..start + len))?;
            start += len;
        }
        self.done += start as u64;
        self.site.progress.report(Stage::Code, self.done, self.total);
        Ok(())
    }

    /// Writes what waits, and the shard, if there is one, into the snapshot.
    fn finish_shard(&mut self) -> Result<()> {
        self.code()?;
        if let Some((shard, name)) = self.shard.take() {
            shard.finish(self.site.directory)?;
            self.next.shards.push(open_shard(self.site.directory, name, &self.codec)?);
        }
        Ok(())
    }
}
