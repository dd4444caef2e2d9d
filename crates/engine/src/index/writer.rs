//! Writing: add, delete, commit.

use std::sync::Arc;

use half::f16;
use latewood_simd::{Kernels, ResidualTokens, code_bytes};

use super::manifest::CodecEntry;
use super::spool::{self, Spool, SpoolReader};
use super::{LiveShard, Progress, ShardEntry, Snapshot, Stage, merge};
use crate::backend::Backend;
use crate::codec::{self, CodedTokens, ResidualCodec, Sampler};
use crate::directory::{Directory, Lock};
use crate::embeddings::TokenEmbeddingsRef;
use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::shard::{Shard, ShardWriter};

/// Tokens coded at a time.
const CODE_TOKENS: usize = 1 << 15;
/// A commit starts another shard at this many tokens.
const SHARD_TOKENS: usize = 4 << 20;
/// A codec is outgrown when a commit brings this many times the tokens it was trained on.
const OUTGROWN: u64 = 2;

/// The one writer of an index. What is added or deleted is seen by nobody until [`IndexWriter::commit`]; a writer
/// dropped before leaves the index as it was.
pub struct IndexWriter {
    directory: Arc<dyn Directory>,
    backend: Arc<dyn Backend>,
    snapshot: Snapshot,
    spool: Spool,
    changed: bool,
    _lock: Box<dyn Lock>,
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commit {
    /// The new generation.
    pub generation: u64,
    /// Tokens coded.
    pub tokens: u64,
}

impl IndexWriter {
    pub(super) fn open(directory: Arc<dyn Directory>, backend: Arc<dyn Backend>) -> Result<Self> {
        let lock = directory.lock()?;
        let snapshot = Snapshot::open(&directory)?;
        if snapshot.manifest.read_only {
            return Err(Error::ReadOnly { dir: directory.path().into() });
        }
        let spool = Spool::new(directory.clone(), snapshot.manifest.dim);
        let writer = Self { directory, backend, snapshot, spool, changed: false, _lock: lock };
        writer.remove_leftovers()?;
        Ok(writer)
    }

    /// The caller's payload of the last commit.
    pub fn payload(&self) -> &[u8] {
        &self.snapshot.payload
    }

    /// Adds a document, in place of one of the same id.
    ///
    /// # Errors
    /// When the dimension is not the index's, or the disk refuses.
    pub fn add(&mut self, doc: DocId, embeddings: TokenEmbeddingsRef<'_>) -> Result<()> {
        let expected = self.snapshot.manifest.dim;
        if embeddings.dim() != expected {
            return Err(Error::DimMismatch { expected, found: embeddings.dim() });
        }
        self.spool.push(doc, embeddings)?;
        self.delete_committed(doc);
        self.changed = true;
        Ok(())
    }

    /// Deletes a document; whether it was there.
    pub fn delete(&mut self, doc: DocId) -> bool {
        let waiting = self.spool.remove(doc);
        let committed = self.delete_committed(doc);
        self.changed |= waiting || committed;
        waiting || committed
    }

    fn delete_committed(&mut self, doc: DocId) -> bool {
        self.snapshot.shards.iter_mut().any(|live| live.shard.find(doc).is_some_and(|ord| live.deleted.insert(ord.0)))
    }

    /// Publishes everything at once: after this returns, and not before, new searchers see it, and it survives a
    /// crash. `payload` is kept with the commit for the caller; `None` keeps the last one.
    ///
    /// # Errors
    /// When the disk refuses or `progress` cancels: the index is then as before, and the commit may be tried again.
    pub fn commit(&mut self, payload: Option<&[u8]>, progress: &dyn Progress) -> Result<Commit> {
        let tokens = self.spool.live_rows();
        if !self.changed && payload.is_none_or(|p| p == self.snapshot.payload) {
            return Ok(Commit { generation: self.snapshot.manifest.generation, tokens: 0 });
        }
        let mut next = self.snapshot.clone();
        next.manifest.generation += 1;
        if let Some(payload) = payload {
            next.payload = payload.to_vec();
        }
        if !self.spool.is_empty() {
            let mut builder =
                Builder { directory: &*self.directory, backend: &*self.backend, next: &mut next, progress };
            builder.code(&self.spool.read()?, tokens)?;
        }
        self.merge(&mut next, progress)?;
        self.publish(&mut next)?;
        self.snapshot = next;
        self.changed = false;
        self.spool.clear()?;
        self.remove_leftovers()?;
        Ok(Commit { generation: self.snapshot.manifest.generation, tokens })
    }

    fn merge(&self, next: &mut Snapshot, progress: &dyn Progress) -> Result<()> {
        next.shards.retain(|live| live.live_docs() > 0);
        let plan = merge::plan(&next.shards);
        let mut merged = Vec::new();
        for group in &plan {
            let shards: Vec<&LiveShard> = group.iter().map(|&i| &next.shards[i]).collect();
            let name = next_file(&mut next.manifest.next_file, "shard", "lws");
            merge::merge(&*self.directory, &name, &shards, progress)?;
            merged.push(open_shard(&*self.directory, name, shards[0].shard.codec())?);
        }
        let mut at = 0..;
        next.shards.retain(|_| at.next().is_none_or(|i| !plan.iter().flatten().any(|&j| i == j)));
        next.shards.extend(merged);
        let used = |digest: u64| next.shards.iter().any(|live| live.entry.codec == digest);
        next.manifest.codecs.retain(|codec| used(codec.digest));
        next.codecs.retain(|&digest, _| used(digest));
        Ok(())
    }

    fn publish(&self, next: &mut Snapshot) -> Result<()> {
        // The new files' names must be durable before the manifest speaks of them.
        self.directory.sync()?;
        next.manifest.shards = next.shards.iter().map(|live| live.entry.clone()).collect();
        let tombstones: Vec<_> = next.shards.iter().map(|live| &live.deleted).collect();
        next.manifest.publish(&*self.directory, &tombstones, &next.payload)
    }

    /// Deletes files that an unfinished or earlier commit left.
    fn remove_leftovers(&self) -> Result<()> {
        for name in self.directory.list()? {
            let ours = name == spool::FILE || name.ends_with(".lws") || name.ends_with(".lwc");
            if ours && !self.snapshot.manifest.names(&name) {
                self.directory.delete(&name)?;
            }
        }
        Ok(())
    }
}

impl Drop for IndexWriter {
    fn drop(&mut self) {
        // Only tidiness: the next writer removes what stays.
        let _ = self.spool.clear();
    }
}

fn next_file(counter: &mut u64, stem: &str, extension: &str) -> String {
    *counter += 1;
    format!("{stem}-{counter:06}.{extension}")
}

/// Opens, and so checks, a shard just written.
fn open_shard(directory: &dyn Directory, file: String, codec: &Arc<ResidualCodec>) -> Result<LiveShard> {
    let shard = Shard::open(directory, &file, codec.clone())?;
    let entry = ShardEntry { file, digest: shard.digest(), codec: codec.digest(), tombstone_bytes: 0 };
    Ok(LiveShard { entry, shard: Arc::new(shard), deleted: Default::default() })
}

/// Turns waiting documents into shards of the next snapshot.
struct Builder<'a> {
    directory: &'a dyn Directory,
    backend: &'a dyn Backend,
    next: &'a mut Snapshot,
    progress: &'a dyn Progress,
}

impl Builder<'_> {
    fn code(&mut self, waiting: &SpoolReader<'_>, total: u64) -> Result<()> {
        let codec = self.codec(waiting, total)?;
        let mut writer = ShardWriter::new(&codec);
        let (mut docs, mut rows, mut done) = (Vec::new(), Vec::new(), 0);
        for (doc, values) in waiting.docs() {
            docs.push((doc, values.len() / codec.dim()));
            spool::append_f32(values, &mut rows);
            if rows.len() >= CODE_TOKENS * codec.dim() {
                done += self.code_rows(&codec, &mut docs, &mut rows, &mut writer)?;
                self.progress.report(Stage::Code, done, total);
            }
            if writer.token_count() >= SHARD_TOKENS {
                self.finish(std::mem::replace(&mut writer, ShardWriter::new(&codec)), &codec)?;
            }
        }
        done += self.code_rows(&codec, &mut docs, &mut rows, &mut writer)?;
        self.progress.report(Stage::Code, done, total);
        self.finish(writer, &codec)
    }

    fn code_rows(
        &self,
        codec: &ResidualCodec,
        docs: &mut Vec<(DocId, usize)>,
        rows: &mut Vec<f32>,
        writer: &mut ShardWriter<'_>,
    ) -> Result<u64> {
        if self.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let coded = codec.encode(Kernels::detect(), self.backend, rows);
        let mut start = 0;
        for (doc, len) in docs.drain(..) {
            writer.add(doc, &slice(codec, &coded, start, len));
            start += len;
        }
        rows.clear();
        Ok(start as u64)
    }

    fn finish(&mut self, writer: ShardWriter<'_>, codec: &Arc<ResidualCodec>) -> Result<()> {
        if writer.doc_count() > 0 {
            let name = next_file(&mut self.next.manifest.next_file, "shard", "lws");
            writer.write(self.directory, &name)?;
            self.next.shards.push(open_shard(self.directory, name, codec)?);
        }
        Ok(())
    }

    /// The codec for `total` waiting tokens: the newest, unless they are so many more than it was trained on that it
    /// would fit them badly.
    fn codec(&mut self, waiting: &SpoolReader<'_>, total: u64) -> Result<Arc<ResidualCodec>> {
        if let Some(newest) = self.next.manifest.codecs.last().and_then(|entry| self.next.codecs.get(&entry.digest))
            && total < OUTGROWN * newest.trained_on()
        {
            return Ok(newest.clone());
        }
        let manifest = &mut self.next.manifest;
        let mut sampler = Sampler::new(total, manifest.seed);
        let mut sample = Vec::new();
        for (_, rows) in waiting.docs() {
            for row in rows.chunks_exact(manifest.dim) {
                if sampler.take() {
                    spool::append_f32(row, &mut sample);
                }
            }
        }
        let parts =
            codec::train(&sample, manifest.dim, manifest.bits, total, manifest.seed, self.backend, |done, of| {
                self.progress.report(Stage::Train, done as u64, of as u64);
                !self.progress.cancelled()
            })?;
        let file = next_file(&mut manifest.next_file, "codec", "lwc");
        ResidualCodec::write(self.directory, &file, &parts)?;
        let codec = ResidualCodec::open(self.directory, &file)?;
        manifest.codecs.push(CodecEntry { file, digest: codec.digest() });
        self.next.codecs.insert(codec.digest(), codec.clone());
        Ok(codec)
    }
}

fn slice<'a>(codec: &'a ResidualCodec, coded: &'a CodedTokens, start: usize, len: usize) -> ResidualTokens<'a> {
    let (run, plane) = (start..start + len, code_bytes(codec.dim(), codec.bits()));
    let (scales, inverse_norms): (&[f16], &[f16]) = (&coded.scales, &coded.inverse_norms);
    ResidualTokens {
        bits: codec.bits(),
        dim: codec.dim(),
        levels: codec.levels(),
        centroids: &coded.centroids[run.clone()],
        scales: &scales[run.clone()],
        inverse_norms: &inverse_norms[run.clone()],
        codes: &coded.codes[run.start * plane..run.end * plane],
    }
}
