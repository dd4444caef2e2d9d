//! Rewriting shards: joined, without their deleted documents, and with a new codec where they have drifted.
//!
//! Shards of one codec join without loss, coded tokens being copied. A merge reads shards that nobody changes and writes
//! files that nobody knows of yet, so it runs beside readers and beside its writer; only taking its result over is a
//! step of the writer's.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::budget::Budget;
use super::builder::{self, Site};
use super::policy::Group;
use super::spool::SpoolReader;
use super::writer::{next_file, open_shard};
use super::{LiveShard, Progress, Snapshot, Stage};
use crate::backend::Backend;
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::ids::DocOrd;
use crate::shard::ShardWriter;

/// Shards to be rewritten ([`crate::IndexWriter::due_merges`]): run it on any thread, then give it back to its writer
/// ([`crate::IndexWriter::finish_merge`]). Dropping it leaves the index as it is.
pub struct Merge {
    directory: Arc<dyn Directory>,
    backend: Arc<dyn Backend>,
    budget: Budget,
    group: Group,
    /// What the merge makes: shards, and a codec if they get a new one.
    made: Snapshot,
    ticket: Arc<Ticket>,
}

/// What a merge under way has to itself.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Numbers of the files that it may write.
    pub(super) numbers: Range<u64>,
    /// The files that it reads.
    pub(super) sources: Vec<String>,
}

impl fmt::Debug for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merge").field("sources", &self.ticket.sources).field("drifted", &self.group.drifted).finish()
    }
}

impl Merge {
    /// Of a group of `snapshot`'s shards; takes the numbers of its files from the snapshot.
    pub(super) fn new(
        directory: Arc<dyn Directory>,
        backend: Arc<dyn Backend>,
        budget: Budget,
        snapshot: &mut Snapshot,
        group: Group,
    ) -> Self {
        let tokens: u64 = group.shards.iter().map(LiveShard::live_tokens).sum();
        let mut made = snapshot.without_shards();
        let first = snapshot.manifest.next_file;
        // Names are one more than the counter; a codec, and shards of which the last may be small.
        snapshot.manifest.next_file += 2 + tokens / budget.shard_tokens as u64;
        made.manifest.next_file = first;
        let numbers = first + 1..snapshot.manifest.next_file + 1;
        let sources = group.shards.iter().map(|live| live.entry.file.clone()).collect();
        Self { directory, backend, budget, group, made, ticket: Arc::new(Ticket { numbers, sources }) }
    }

    pub(super) fn ticket(&self) -> Weak<Ticket> {
        Arc::downgrade(&self.ticket)
    }

    /// Documents to be rewritten.
    pub fn docs(&self) -> usize {
        self.group.shards.iter().map(LiveShard::live_docs).sum()
    }

    /// Does the work. Nobody waits for it: searches, additions and commits go on meanwhile.
    ///
    /// # Errors
    /// When `progress` cancels, a shard is damaged, or the disk refuses; then the merge is of no more use.
    pub fn run(&mut self, progress: &dyn Progress) -> Result<()> {
        if self.group.drifted {
            let none = SpoolReader::empty(&*self.directory);
            let (directory, backend, budget) = (&*self.directory, &*self.backend, self.budget);
            let site = Site { directory, backend, progress, budget };
            return builder::build(site, &mut self.made, None, &none, &self.group.shards);
        }
        let name = next_file(&mut self.made.manifest.next_file, "shard", "lws");
        join(&*self.directory, &name, &self.group.shards, progress)?;
        let codec = self.group.shards[0].shard.codec();
        self.made.shards.push(open_shard(&*self.directory, name, codec)?);
        Ok(())
    }

    /// Puts what has been made in the place of its sources; whether they were all there still.
    pub(super) fn replace_in(mut self, snapshot: &mut Snapshot) -> bool {
        let source = |live: &LiveShard| self.ticket.sources.contains(&live.entry.file);
        if self.made.shards.is_empty()
            || snapshot.shards.iter().filter(|l| source(l)).count() < self.ticket.sources.len()
        {
            return false;
        }
        let (now, kept) = snapshot.shards.drain(..).partition(source);
        snapshot.shards = kept;
        for live in &now {
            self.delete_since(live);
        }
        snapshot.shards.append(&mut self.made.shards);
        snapshot.manifest.codecs.append(&mut self.made.manifest.codecs);
        snapshot.codecs.extend(self.made.codecs);
        true
    }

    /// Deletes the documents that have been deleted in a source since the merge was planned.
    fn delete_since(&mut self, now: &LiveShard) {
        let Some(before) = self.group.shards.iter().find(|live| live.entry.file == now.entry.file) else { return };
        for ord in &now.deleted - &before.deleted {
            let doc = now.shard.doc_id(DocOrd(ord));
            self.made.shards.iter_mut().any(|made| made.delete(doc));
        }
    }
}

/// Writes the live documents of `shards`, which share a codec, as the file `name`.
fn join(directory: &dyn Directory, name: &str, shards: &[LiveShard], progress: &dyn Progress) -> Result<()> {
    let docs = builder::in_order(shards)?;
    let mut writer = ShardWriter::create(directory, name, shards[0].shard.codec().clone())?;
    let total = docs.len() as u64;
    for (done, &(doc, live, ord)) in (0..).zip(&docs) {
        if done % 1024 == 0 {
            progress.report(Stage::Merge, done, total);
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
        }
        writer.add(doc, &live.shard.fine_tokens(ord)?)?;
    }
    progress.report(Stage::Merge, total, total);
    writer.finish(directory)
}
