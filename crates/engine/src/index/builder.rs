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
use super::{LiveShard, Progress, Snapshot, Stage};
use crate::backend::Backend;
use crate::codec::{self, CodedTokens, ResidualCodec, Sampler, Shape};
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::shard::ShardWriter;

/// Tokens coded at a time.
const CODE_TOKENS: usize = 1 << 15;
/// A commit starts another shard at this many tokens.
const SHARD_TOKENS: usize = 4 << 20;

/// Adds shards of the waiting documents, and of the live ones of `outgrown`, to `next`.
pub(super) fn build(
    directory: &dyn Directory,
    backend: &dyn Backend,
    next: &mut Snapshot,
    progress: &dyn Progress,
    waiting: &SpoolReader<'_>,
    outgrown: &[LiveShard],
) -> Result<()> {
    // Of deleted documents nothing is coded: a sample chosen from their tokens too might hold none of the others.
    let total = waiting.rows() + outgrown.iter().map(LiveShard::live_tokens).sum::<u64>();
    let codec = match next.newest_codec() {
        Some(newest) if outgrown.is_empty() => newest.clone(),
        _ => {
            let sample = sample(waiting, outgrown, Sampler::new(total, next.manifest.dim, next.manifest.seed))?;
            train(directory, backend, next, progress, sample, total)?
        }
    };
    let batch = Batch { docs: Vec::new(), rows: Vec::new() };
    let mut builder = Builder { directory, backend, next, progress, codec, batch, shard: None, done: 0, total };
    waiting.for_each(|doc, rows| builder.add(doc, |out| append_f32(rows, out)))?;
    builder.finish_shard()?;
    for live in outgrown {
        for ord in live.docs() {
            let rows = live.shard.decode(ord)?;
            builder.add(live.shard.doc_id(ord), |out| out.extend(rows))?;
        }
        builder.finish_shard()?;
    }
    Ok(())
}

/// A sample of all that is to be coded, `[n, d]`.
fn sample(waiting: &SpoolReader<'_>, outgrown: &[LiveShard], mut sampler: Sampler) -> Result<Vec<f32>> {
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

/// Trains a codec, writes it, and takes it into `next`.
fn train(
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
