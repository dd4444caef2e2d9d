//! Writing: add, delete, commit.

use std::sync::Arc;

use super::spool::Spool;
use super::{LiveShard, Progress, ShardEntry, Snapshot, builder, merge};
use crate::backend::Backend;
use crate::codec::ResidualCodec;
use crate::directory::{Directory, Lock};
use crate::embeddings::TokenEmbeddingsRef;
use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::shard::Shard;

/// A codec is outgrown when it would code this many times the tokens it was trained on.
const OUTGROWN: u64 = 4;

/// The one writer of an index. What is added or deleted is seen by nobody until [`IndexWriter::commit`]; a writer
/// dropped before leaves the index as it was.
pub struct IndexWriter {
    directory: Arc<dyn Directory>,
    backend: Arc<dyn Backend>,
    snapshot: Snapshot,
    spool: Spool,
    changed: bool,
    policy: merge::Policy,
    /// A write failed halfway: what is held may not be what was given.
    failed: bool,
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
        let writer = Self {
            directory,
            backend,
            snapshot,
            spool,
            changed: false,
            policy: merge::Policy::Tiered,
            failed: false,
            _lock: lock,
        };
        // A writer killed within its commit may leave a manifest that is seen and not yet durable: it must be, before
        // the files of the commit before it go.
        writer.directory.sync()?;
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
        self.check_failed()?;
        self.failed = true;
        self.spool.push(doc, embeddings)?;
        self.failed = false;
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
    /// When `progress` cancels or the disk refuses. The index is then as before or, where the very last step failed, the
    /// commit is seen and may not survive a loss of power; a cancelled commit may be tried again, after any other failure
    /// a new writer is needed.
    pub fn commit(&mut self, payload: Option<&[u8]>, progress: &dyn Progress) -> Result<Commit> {
        self.check_failed()?;
        let result = self.try_commit(payload, progress);
        self.failed = matches!(&result, Err(e) if !matches!(e, Error::Cancelled));
        result
    }

    /// As [`IndexWriter::commit`], and leaves as few shards as there can be, without deleted documents: what is dead
    /// takes no more room, and searches have less to go through.
    ///
    /// # Errors
    /// As [`IndexWriter::commit`].
    pub fn compact(&mut self, progress: &dyn Progress) -> Result<Commit> {
        self.changed |=
            merge::plan(&self.snapshot.shards, merge::Policy::Compact).iter().any(|group| !group.is_empty());
        self.policy = merge::Policy::Compact;
        let result = self.commit(None, progress);
        self.policy = merge::Policy::Tiered;
        result
    }

    fn check_failed(&self) -> Result<()> {
        if self.failed { Err(Error::WriterFailed { dir: self.directory.path().into() }) } else { Ok(()) }
    }

    fn try_commit(&mut self, payload: Option<&[u8]>, progress: &dyn Progress) -> Result<Commit> {
        if !self.changed && payload.is_none_or(|p| p == self.snapshot.payload) {
            return Ok(Commit { generation: self.snapshot.manifest.generation, tokens: 0 });
        }
        let tokens = self.spool.live_rows();
        let mut next = self.snapshot.clone();
        next.manifest.generation += 1;
        if let Some(payload) = payload {
            next.payload = payload.to_vec();
        }
        let built = self.build(&mut next, progress);
        // No file number is used twice, whatever became of the first use.
        self.snapshot.manifest.next_file = next.manifest.next_file;
        built?;
        self.publish(&mut next)?;
        self.snapshot = next;
        self.changed = false;
        // The commit stands; what is left to do is tidiness, and the next writer does it if this one cannot.
        let _ = self.spool.clear();
        let _ = self.remove_leftovers();
        Ok(Commit { generation: self.snapshot.manifest.generation, tokens })
    }

    fn build(&mut self, next: &mut Snapshot, progress: &dyn Progress) -> Result<()> {
        if !self.spool.is_empty() {
            let outgrown = self.outgrown_shards(next);
            let (directory, backend) = (&*self.directory, &*self.backend);
            builder::build(directory, backend, next, progress, &self.spool.read()?, &outgrown)?;
        }
        self.merge(next, progress)
    }

    /// Takes the shards of a codec that the index has outgrown out of `next`: their documents are to be coded anew,
    /// from what the old codec kept of them. Each document lives through that only a few times, as every new codec
    /// serves an index several times as large.
    fn outgrown_shards(&self, next: &mut Snapshot) -> Vec<LiveShard> {
        let Some(newest) = next.newest_codec() else { return Vec::new() };
        let (digest, trained_on) = (newest.digest(), newest.trained_on());
        let of_newest = |live: &LiveShard| live.entry.codec == digest;
        let coded: u64 = next.shards.iter().filter(|live| of_newest(live)).map(|l| l.shard.token_count() as u64).sum();
        if coded + self.spool.live_rows() < OUTGROWN.saturating_mul(trained_on) {
            return Vec::new();
        }
        let (outgrown, kept) = next.shards.drain(..).partition(of_newest);
        next.shards = kept;
        outgrown
    }

    fn merge(&self, next: &mut Snapshot, progress: &dyn Progress) -> Result<()> {
        next.shards.retain(|live| live.live_docs() > 0);
        let plan = merge::plan(&next.shards, self.policy);
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
            let ours = name.ends_with(".tmp") || name.ends_with(".lws") || name.ends_with(".lwc");
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

pub(super) fn next_file(counter: &mut u64, stem: &str, extension: &str) -> String {
    *counter += 1;
    format!("{stem}-{counter:06}.{extension}")
}

/// Opens, and so checks, a shard just written.
pub(super) fn open_shard(directory: &dyn Directory, file: String, codec: &Arc<ResidualCodec>) -> Result<LiveShard> {
    let shard = Shard::open(directory, &file, codec.clone())?;
    shard.verify()?;
    let entry = ShardEntry { file, digest: shard.digest(), codec: codec.digest(), tombstone_bytes: 0 };
    Ok(LiveShard { entry, shard: Arc::new(shard), deleted: Default::default() })
}
