//! Building shards: of the documents that wait, and of those whose codec the index has outgrown.
//!
//! Rows go through in batches, and codes to disk as they are made: memory holds a sample for training, then a batch, and
//! of the shard being written a few bytes a token.

use std::sync::Arc;

use half::f16;
use latewood_simd::ResidualTokens;

use super::manifest::CodecEntry;
use super::spool::{SpoolReader, append_f32};
use super::writer::{next_file, open_shard};
use super::{LiveShard, Progress, Snapshot, Stage, policy};
use crate::backend::Backend;
use crate::codec::{self, CodedTokens, ResidualCodec, Sampler, Shape};
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::ids::{DocId, DocOrd};
use crate::shard::ShardWriter;

/// Tokens coded at a time.
const CODE_TOKENS: usize = 1 << 15;
/// A commit starts another shard at this many tokens.
pub(super) const SHARD_TOKENS: usize = 4 << 20;

/// Adds shards of the waiting documents, and of the live ones of `outgrown`, to `next`: of `codec`, or of a new one.
pub(super) fn build(
    directory: &dyn Directory,
    backend: &dyn Backend,
    next: &mut Snapshot,
    progress: &dyn Progress,
    codec: Option<Arc<ResidualCodec>>,
    waiting: &SpoolReader<'_>,
    outgrown: &[LiveShard],
) -> Result<()> {
    // Of deleted documents nothing is coded: a sample chosen from their tokens too might hold none of the others.
    let total = waiting.rows() + outgrown.iter().map(LiveShard::live_tokens).sum::<u64>();
    let codec = match codec {
        Some(codec) => codec,
        None => {
            let mut sampler = Sampler::new(total, next.manifest.dim, next.manifest.seed);
            let sample = sample(waiting, outgrown, &mut sampler)?;
            train(directory, backend, next, progress, sample, total)?
        }
    };
    let batch = Batch { docs: Vec::new(), rows: Vec::new() };
    let mut builder = Builder { directory, backend, next, progress, codec, batch, shard: None, done: 0, total };
    waiting.for_each(|doc, rows| builder.add(doc, |out| append_f32(rows, out)))?;
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
    let sample = sample(waiting, &[], &mut sampler)?;
    let distance = |codec: Arc<ResidualCodec>| {
        let sum = codec.encode(backend, &sample).scale_sum(codec.scales());
        (sum, codec)
    };
    // In the order of the manifest: of equals, the first.
    let codecs = manifest.codecs.iter().filter_map(|entry| snapshot.codecs.get(&entry.digest).cloned());
    let nearest = codecs.map(distance).min_by(|a, b| a.0.total_cmp(&b.0));
    let fits = |(sum, codec): &(f64, Arc<ResidualCodec>)| {
        !many || !policy::has_drifted(codec, *sum, sample.len() / manifest.dim)
    };
    Ok(nearest.filter(fits).map(|(_, codec)| codec))
}

/// A sample of all that is to be coded, `[n, d]`.
fn sample(waiting: &SpoolReader<'_>, outgrown: &[LiveShard], sampler: &mut Sampler) -> Result<Vec<f32>> {
    let mut sample = Vec::new();
    waiting.for_each(|_, rows: &[f16]| {
        let rows = rows.chunks_exact(sampler.dim());
        rows.for_each(|row| {
            if sampler.take() {
                append_f32(row, &mut sample)
            }
        });
        Ok(())
    })?;
    for live in outgrown {
        for ord in live.docs() {
            let rows = live.shard.decode(ord)?;
            let rows = rows.chunks_exact(sampler.dim());
            rows.for_each(|row| {
                if sampler.take() {
                    sample.extend_from_slice(row)
                }
            });
        }
    }
    Ok(sample)
}

/// Trains a codec on `sample` `[n, d]`, for an index of `total` tokens, writes it, and takes it into `next`.
pub(super) fn train(
    directory: &dyn Directory,
    backend: &dyn Backend,
    next: &mut Snapshot,
    progress: &dyn Progress,
    sample: Vec<f32>,
    total: u64,
) -> Result<Arc<ResidualCodec>> {
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
    directory: &'a dyn Directory,
    backend: &'a dyn Backend,
    next: &'a mut Snapshot,
    progress: &'a dyn Progress,
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
        if self.batch.rows.len() < CODE_TOKENS * self.codec.dim() {
            return Ok(());
        }
        self.code()?;
        let full = self.shard.as_ref().is_some_and(|(shard, _)| shard.token_count() >= SHARD_TOKENS);
        if full { self.finish_shard() } else { Ok(()) }
    }

    fn code(&mut self) -> Result<()> {
        if self.batch.docs.is_empty() {
            return Ok(());
        }
        if self.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let coded = self.codec.encode(self.backend, &self.batch.rows);
        self.batch.rows.clear();
        let mut start = 0;
        for (doc, len) in std::mem::take(&mut self.batch.docs) {
            let (shard, _) = match &mut self.shard {
                Some(shard) => shard,
                none => {
                    let name = next_file(&mut self.next.manifest.next_file, "shard", "lws");
                    none.insert((ShardWriter::create(self.directory, &name, self.codec.clone())?, name))
                }
            };
            shard.add(doc, &slice(&self.codec, &coded, start, len))?;
            start += len;
        }
        self.done += start as u64;
        self.progress.report(Stage::Code, self.done, self.total);
        Ok(())
    }

    /// Writes what waits, and the shard, if there is one, into the snapshot.
    fn finish_shard(&mut self) -> Result<()> {
        self.code()?;
        if let Some((shard, name)) = self.shard.take() {
            shard.finish(self.directory)?;
            self.next.shards.push(open_shard(self.directory, name, &self.codec)?);
        }
        Ok(())
    }
}

fn slice<'a>(codec: &'a ResidualCodec, coded: &'a CodedTokens, start: usize, len: usize) -> ResidualTokens<'a> {
    let run = start..start + len;
    let (plane, fine_plane) = codec.planes();
    ResidualTokens {
        bits: codec.bits(),
        dim: codec.dim(),
        levels: codec.levels(),
        scales: codec.scales(),
        centroids: &coded.centroids[run.clone()],
        factors: &coded.factors[run.clone()],
        codes: &coded.codes[run.start * plane..run.end * plane],
        fine: &coded.fine[run.start * fine_plane..run.end * fine_plane],
    }
}
