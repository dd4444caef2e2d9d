//! Writing: add, delete, commit.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use super::budget::Budget;
use super::builder::{self, Site};
use super::manifest::number_of;
use super::merge::{Merge, Ticket};
use super::policy::{self, Policy};
use super::spool::Spool;
use super::{LiveShard, Progress, ShardEntry, Snapshot};
use crate::backend::Backend;
use crate::codec::{ResidualCodec, Sample, Sampler};
use crate::directory::{Directory, Lock};
use crate::embeddings::{TokenEmbeddings, TokenEmbeddingsRef};
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
    budget: Budget,
    changed: bool,
    /// Whether commits leave merges to [`IndexWriter::due_merges`].
    merges_apart: bool,
    /// Merges under way.
    merging: Vec<Weak<Ticket>>,
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
            budget: Budget::USUAL,
            changed: false,
            merges_apart: false,
            merging: Vec::new(),
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

    /// From now on training, commits and merges keep to about `bytes` of memory, 64 MiB at least. The less they have, the
    /// fewer rows a codec is trained on, the fewer centroids it has, and the more shards there are: the least budgets cost
    /// recall and time. Beyond it go some 50 bytes for each document that waits for a commit, and what the system keeps
    /// of older shards that are read again, as long as it has the room. Without a budget, building takes 300 to 600 MB at
    /// 128 dimensions.
    ///
    /// # Errors
    /// When it is less.
    pub fn limit_memory(&mut self, bytes: usize) -> Result<()> {
        self.budget = Budget::within(bytes, &self.snapshot.manifest)?;
        Ok(())
    }

    /// Tokens of a shard that a commit makes: a large build is best committed when as many are waiting.
    pub fn shard_tokens(&self) -> usize {
        self.budget.shard_tokens
    }

    /// Chooses the rows to train on ([`IndexWriter::train`]) from `rows` that are to come: ask it once for each, in order.
    pub fn sampler(&self, rows: u64) -> Sampler {
        Sampler::new(rows, self.snapshot.manifest.dim, self.snapshot.manifest.seed, self.budget.sample_bytes)
    }

    /// Trains a codec ahead, on a `sample` of what is to come, for an index of `rows` rows in all: documents may then be
    /// committed part by part, and a build that is killed goes on from its last commit. Without this, the first commit
    /// trains on what it holds, and the index is coded anew when it has become four times as large.
    ///
    /// # Errors
    /// As [`IndexWriter::commit`]; the next commit publishes the codec.
    pub fn train(&mut self, sample: TokenEmbeddings, rows: u64, progress: &dyn Progress) -> Result<()> {
        let expected = self.snapshot.manifest.dim;
        if sample.view().dim() != expected {
            return Err(Error::DimMismatch { expected, found: sample.view().dim() });
        }
        self.check_failed()?;
        let (values, token_ids) = sample.into_parts();
        let (directory, backend, budget) = (&*self.directory, &*self.backend, self.budget);
        let site = Site { directory, backend, progress, budget };
        builder::train(site, &mut self.snapshot, Sample { rows: values, token_ids }, rows)?;
        self.changed = true;
        Ok(())
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
        self.snapshot.shards.iter_mut().any(|live| live.delete(doc))
    }

    /// Publishes everything at once: after this returns, and not before, new searchers see it, and it survives a
    /// crash. `payload` is kept with the commit for the caller; `None` keeps the last one.
    ///
    /// # Errors
    /// When `progress` cancels or the disk refuses. The index is then as before or, where the very last step failed, the
    /// commit is seen and may not survive a loss of power; a cancelled commit may be tried again, after any other failure
    /// a new writer is needed.
    pub fn commit(&mut self, payload: Option<&[u8]>, progress: &dyn Progress) -> Result<Commit> {
        let policy = if self.merges_apart { None } else { Some(Policy::Tiered) };
        self.commit_and_merge(payload, policy, progress)
    }

    /// As [`IndexWriter::commit`], and leaves as few shards as there can be, without deleted documents: what is dead
    /// takes no more room, and searches have less to go through. Documents unlike those that their codec was trained on
    /// are coded anew.
    ///
    /// # Errors
    /// As [`IndexWriter::commit`].
    pub fn compact(&mut self, progress: &dyn Progress) -> Result<Commit> {
        self.changed |= !policy::plan(&self.snapshot.shards, Policy::Compact, self.budget.merged_tokens)?.is_empty();
        self.commit_and_merge(None, Some(Policy::Compact), progress)
    }

    /// From now on commits join no shards themselves, so that none takes long: run [`IndexWriter::due_merges`] beside
    /// them.
    pub fn merge_apart(&mut self) {
        self.merges_apart = true;
    }

    /// The merges that are due by now and not under way, to be run on other threads. Shards of one codec are joined
    /// where more than eight lie side by side, and rewritten where most of their documents are deleted.
    ///
    /// # Errors
    /// When a shard is damaged.
    pub fn due_merges(&mut self) -> Result<Vec<Merge>> {
        self.merging.retain(|ticket| ticket.strong_count() > 0);
        let under_way: Vec<String> =
            self.merging.iter().filter_map(Weak::upgrade).flat_map(|ticket| ticket.sources.clone()).collect();
        let mut free = self.snapshot.shards.clone();
        free.retain(|live| live.live_docs() > 0 && !under_way.contains(&live.entry.file));
        let mut merges = Vec::new();
        for group in policy::plan(&free, Policy::Tiered, self.budget.merged_tokens)? {
            let (directory, backend) = (self.directory.clone(), self.backend.clone());
            let merge = Merge::new(directory, backend, self.budget, &mut self.snapshot, group);
            self.merging.push(merge.ticket());
            merges.push(merge);
        }
        Ok(merges)
    }

    /// Takes over what a merge has made; the next commit publishes it. Whether it was of use: a merge whose shards have
    /// been rewritten otherwise meanwhile, or that has not run, is not.
    pub fn finish_merge(&mut self, merge: Merge) -> bool {
        let taken = merge.replace_in(&mut self.snapshot);
        self.changed |= taken;
        taken
    }

    fn commit_and_merge(
        &mut self,
        payload: Option<&[u8]>,
        policy: Option<Policy>,
        progress: &dyn Progress,
    ) -> Result<Commit> {
        self.check_failed()?;
        let result = self.try_commit(payload, policy, progress);
        self.failed = matches!(&result, Err(e) if !matches!(e, Error::Cancelled));
        result
    }

    fn check_failed(&self) -> Result<()> {
        if self.failed { Err(Error::WriterFailed { dir: self.directory.path().into() }) } else { Ok(()) }
    }

    fn try_commit(
        &mut self,
        payload: Option<&[u8]>,
        policy: Option<Policy>,
        progress: &dyn Progress,
    ) -> Result<Commit> {
        if !self.changed && payload.is_none_or(|p| p == self.snapshot.payload) {
            return Ok(Commit { generation: self.snapshot.manifest.generation, tokens: 0 });
        }
        let tokens = self.spool.live_rows();
        let mut next = self.snapshot.clone();
        next.manifest.generation += 1;
        if let Some(payload) = payload {
            next.payload = payload.to_vec();
        }
        let built = self.build(&mut next, policy, progress);
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

    fn build(&mut self, next: &mut Snapshot, policy: Option<Policy>, progress: &dyn Progress) -> Result<()> {
        if !self.spool.is_empty() {
            let (directory, backend, budget) = (&*self.directory, &*self.backend, self.budget);
            let site = Site { directory, backend, progress, budget };
            let waiting = self.spool.read()?;
            let fitting = builder::fitting_codec(backend, next, &waiting)?;
            let (codec, outgrown) = match fitting {
                Some(codec) => take_outgrown(next, codec, waiting.rows()),
                None => (None, Vec::new()),
            };
            builder::build(site, next, codec, &waiting, &outgrown)?;
        }
        next.shards.retain(|live| live.live_docs() > 0);
        if let Some(policy) = policy {
            self.merge(next, policy, progress)?;
        }
        // A codec that has not been used yet was trained for what is to come.
        let uses = |snapshot: &Snapshot, digest| snapshot.shards.iter().any(|live| live.entry.codec == digest);
        let kept: HashSet<u64> =
            next.codecs.keys().copied().filter(|&digest| uses(next, digest) || !uses(&self.snapshot, digest)).collect();
        next.manifest.codecs.retain(|codec| kept.contains(&codec.digest));
        next.codecs.retain(|digest, _| kept.contains(digest));
        Ok(())
    }

    fn merge(&self, next: &mut Snapshot, policy: Policy, progress: &dyn Progress) -> Result<()> {
        for group in policy::plan(&next.shards, policy, self.budget.merged_tokens)? {
            let mut merge = Merge::new(self.directory.clone(), self.backend.clone(), self.budget, next, group);
            merge.run(progress)?;
            merge.replace_in(next);
        }
        Ok(())
    }

    fn publish(&self, next: &mut Snapshot) -> Result<()> {
        // The new files' names must be durable before the manifest speaks of them.
        self.directory.sync()?;
        next.manifest.shards = next.shards.iter().map(|live| live.entry.clone()).collect();
        let tombstones: Vec<_> = next.shards.iter().map(|live| &live.deleted).collect();
        next.manifest.publish(&*self.directory, &tombstones, &next.payload)
    }

    /// Deletes files that an unfinished or earlier commit left, and none of a merge under way.
    fn remove_leftovers(&self) -> Result<()> {
        let merging: Vec<_> = self.merging.iter().filter_map(Weak::upgrade).collect();
        let being_made = |name: &str| {
            number_of(name).is_some_and(|number| merging.iter().any(|ticket| ticket.numbers.contains(&number)))
        };
        for name in self.directory.list()? {
            let made = name.strip_suffix(".tmp").map_or(&*name, |made| made.strip_suffix(".fine").unwrap_or(made));
            let numbered = number_of(made).is_some() && (made.ends_with(".lws") || made.ends_with(".lwc"));
            let ours = numbered || matches!(&*name, super::spool::FILE | "manifest.lw.tmp");
            if ours && !self.snapshot.manifest.names(&name) && !being_made(&name) {
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

/// The shards of `codec`, out of `next`, if with `waiting` more tokens the index has outgrown it, or else the codec.
///
/// The shards' documents are to be coded anew, from what the old codec kept of them. Each document lives through that
/// only a few times, as every new codec serves an index several times as large.
fn take_outgrown(
    next: &mut Snapshot,
    codec: Arc<ResidualCodec>,
    waiting: u64,
) -> (Option<Arc<ResidualCodec>>, Vec<LiveShard>) {
    let own = |live: &LiveShard| live.entry.codec == codec.digest();
    let coded: u64 = next.shards.iter().filter(|live| own(live)).map(|live| live.shard.token_count() as u64).sum();
    if coded + waiting < OUTGROWN.saturating_mul(codec.trained_on()) {
        return (Some(codec), Vec::new());
    }
    let (outgrown, kept) = next.shards.drain(..).partition(own);
    next.shards = kept;
    (None, outgrown)
}

pub(super) fn next_file(counter: &mut u64, stem: &str, extension: &str) -> String {
    *counter += 1;
    format!("{stem}-{counter:06}.{extension}")
}

/// Opens a shard just written, and checks all of it. What has been read for that is let go of: a build of many shards
/// does not hold them in memory.
pub(super) fn open_shard(directory: &dyn Directory, file: String, codec: &Arc<ResidualCodec>) -> Result<LiveShard> {
    Shard::open(directory, &file, codec.clone())?.verify()?;
    let shard = Shard::open(directory, &file, codec.clone())?;
    let entry = ShardEntry { file, digest: shard.digest(), codec: codec.digest(), tombstone_bytes: 0 };
    Ok(LiveShard { entry, shard: Arc::new(shard), deleted: Default::default() })
}
