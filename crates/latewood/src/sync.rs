//! Bringing an index up to date with its folder.
//!
//! Files whose size and time are as catalogued are left alone, the others are hashed, and only content that was
//! not there before is split and encoded: a touched or moved file costs a hash. One commit publishes everything.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use latewood_engine::{DocId, IndexWriter, Progress, Stage};
use latewood_ingest::{self as ingest, Document, FileEntry, PassageOptions, SkipReason, Skipped, WalkOptions};

use crate::catalog::{Catalog, FileRecord, PassageRecord, SkippedRecord};
use crate::error::{Error, Result};
use crate::text_index::TextIndex;
use crate::texts::{self, TextsWriter};

/// Passages encoded at a time: enough for batches of like length.
const ENCODE_PASSAGES: usize = 256;
/// A file changed within this time before the last sync may have changed again without a newer time stamp.
const TIME_STAMP_NS: i64 = 2_000_000_000;

/// What to read, and how to split it.
#[derive(Debug, Clone, Default)]
pub struct SyncOptions {
    /// Which files.
    pub walk: WalkOptions,
    /// How large passages are.
    pub passages: PassageOptions,
}

/// A file that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Relative to the root, `/`-separated.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl From<&Skipped> for LeftOut {
    fn from(skipped: &Skipped) -> Self {
        Self { path: skipped.path.clone(), reason: skipped.reason.to_string() }
    }
}

/// Left out in an earlier sync, and not looked at again since.
impl From<&SkippedRecord> for LeftOut {
    fn from(record: &SkippedRecord) -> Self {
        Self { path: record.path.clone(), reason: record.reason.clone() }
    }
}

/// What a sync is doing.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The folder has been walked: so many bytes in so many files are new or changed.
    Found {
        /// Files.
        files: usize,
        /// Bytes.
        bytes: u64,
    },
    /// So many of those bytes are done with.
    Encoded {
        /// Bytes.
        bytes: u64,
        /// Passages so far.
        passages: usize,
    },
    /// A file is left out.
    Skipped(&'a LeftOut),
    /// The engine is building: `done` of `total` steps of a stage.
    Building {
        /// The stage.
        stage: Stage,
        /// Steps done.
        done: u64,
        /// Steps in all.
        total: u64,
    },
}

/// Hears what a sync does, and may stop it; `()` does neither.
pub trait Monitor {
    /// Something happened.
    fn event(&self, event: Event<'_>) {
        let _ = event;
    }

    /// Whether to stop: the sync then fails with the engine's `Cancelled`, and the last commit stands.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Monitor for () {}

/// What a sync did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SyncReport {
    /// New files.
    pub added: usize,
    /// Files with new content.
    pub updated: usize,
    /// Files with the content of one that is gone: not encoded again.
    pub moved: usize,
    /// Files that are gone.
    pub removed: usize,
    /// Files as they were.
    pub unchanged: usize,
    /// Passages encoded.
    pub passages: usize,
    /// Tokens encoded, counted by the rows that were kept.
    pub tokens: u64,
    /// Everything left out, each with the reason.
    pub skipped: Vec<LeftOut>,
}

impl SyncReport {
    /// Files that are not as they were at the last sync.
    pub fn changes(&self) -> usize {
        self.added + self.updated + self.moved + self.removed
    }
}

impl TextIndex {
    /// Brings the index up to date with the folder; what is committed is searchable from then on.
    ///
    /// # Errors
    /// When another process is writing, the disk refuses, `monitor` cancels, or the folder has nothing to index: the
    /// last commit then stands.
    pub fn sync(&self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport> {
        let began = now_ns();
        let walk = ingest::walk(&self.root, &options.walk)?;
        // Looked at without the lock first: mostly nothing has changed, and then nobody needs to wait for anybody.
        let searcher = self.index.searcher()?;
        if let Some(catalog) = Catalog::from_payload(searcher.payload(), self.path())?
            && let Some(report) = unchanged(&catalog, &walk)
        {
            return self.refuse_empty(report);
        }
        drop(searcher);
        let writer = self.index.writer()?;
        let catalog = Catalog::from_payload(writer.payload(), self.path())?;
        let catalog = catalog.ok_or_else(|| Error::NoText { index: self.path().into() })?;
        let report = Sync::new(self, options, monitor, writer, catalog).run(walk, began)?;
        self.refuse_empty(report)
    }

    /// A folder without documents is a mistake to be told, not an index to be searched.
    fn refuse_empty(&self, report: SyncReport) -> Result<SyncReport> {
        if report.added + report.updated + report.moved + report.unchanged > 0 {
            return Ok(report);
        }
        Err(Error::NoDocuments { folder: self.root.clone(), skipped: report.skipped })
    }
}

/// The report, if every file is as catalogued.
fn unchanged(catalog: &Catalog, walk: &ingest::Walk) -> Option<SyncReport> {
    let known = Known::new(catalog);
    let all = walk.files.iter().all(|entry| known.is_current(entry));
    if !all || walk.files.len() != catalog.files.len() + catalog.skipped.len() {
        return None;
    }
    let skipped = walk.skipped.iter().map(LeftOut::from).chain(catalog.skipped.iter().map(LeftOut::from)).collect();
    Some(SyncReport { unchanged: catalog.files.len(), skipped, ..SyncReport::default() })
}

/// What the catalogue says of files, by path.
struct Known<'a> {
    files: HashMap<&'a str, &'a FileRecord>,
    skipped: HashMap<&'a str, &'a SkippedRecord>,
    synced_ns: i64,
}

impl<'a> Known<'a> {
    fn new(catalog: &'a Catalog) -> Self {
        let skipped = catalog.skipped.iter().map(|s| (s.path.as_str(), s)).collect();
        Self { files: catalog.by_path(), skipped, synced_ns: catalog.synced_ns }
    }

    /// Whether size and time say that a file is as it was read.
    fn is_current(&self, entry: &FileEntry) -> bool {
        let file = self.files.get(entry.path.as_str()).map(|f| (f.size, f.modified_ns));
        let skipped = || self.skipped.get(entry.path.as_str()).map(|s| (s.size, s.modified_ns));
        file.or_else(skipped) == Some((entry.size, entry.modified_ns))
            && entry.modified_ns < self.synced_ns - TIME_STAMP_NS
    }
}

/// A sync under way.
struct Sync<'a> {
    index: &'a TextIndex,
    options: &'a SyncOptions,
    monitor: &'a dyn Monitor,
    writer: IndexWriter,
    old: Catalog,
    new: Catalog,
    report: SyncReport,
    /// Passages waiting to be encoded.
    waiting: Vec<(DocId, String)>,
    done_bytes: u64,
}

impl<'a> Sync<'a> {
    fn new(
        index: &'a TextIndex,
        options: &'a SyncOptions,
        monitor: &'a dyn Monitor,
        writer: IndexWriter,
        old: Catalog,
    ) -> Self {
        let new = old.successor();
        let report = SyncReport::default();
        Self { index, options, monitor, writer, old, new, report, waiting: Vec::new(), done_bytes: 0 }
    }

    fn run(mut self, walk: ingest::Walk, began: i64) -> Result<SyncReport> {
        let directory = self.index.index.directory();
        let mut texts = TextsWriter::new(directory, self.new.next_blob);
        for skipped in &walk.skipped {
            self.skip(skipped);
        }
        let changed = self.keep_current(walk.files);
        let removed = self.removed(&changed);
        let bytes = changed.iter().map(|entry| entry.size).sum();
        self.monitor.event(Event::Found { files: changed.len(), bytes });
        let mut moved = HashSet::new();
        for entry in &changed {
            self.bring_in(entry, &removed, &mut moved, &mut texts)?;
        }
        self.encode()?;
        for file in removed.values().filter(|file| !moved.contains(&file.first_doc)) {
            self.report.removed += 1;
            file.docs().for_each(|doc| _ = self.writer.delete(DocId(doc)));
        }
        self.new.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.new.synced_ns = began;
        texts.compact(&mut self.new)?;
        self.new.next_blob += u32::from(texts.finish()?);
        let engine = EngineProgress(self.monitor);
        self.writer.commit(Some(&self.new.to_payload()?), &engine)?;
        texts::remove_unused(directory, &self.new)?;
        Ok(self.report)
    }

    /// Takes over what has not changed; returns the rest.
    fn keep_current(&mut self, files: Vec<FileEntry>) -> Vec<FileEntry> {
        let known = Known::new(&self.old);
        let (current, changed): (Vec<_>, Vec<_>) = files.into_iter().partition(|entry| known.is_current(entry));
        for entry in &current {
            if let Some(&file) = known.files.get(entry.path.as_str()) {
                self.new.files.push(file.clone());
                self.report.unchanged += 1;
            } else if let Some(&skipped) = known.skipped.get(entry.path.as_str()) {
                self.new.skipped.push(skipped.clone());
                self.report.skipped.push(skipped.into());
            }
        }
        changed
    }

    /// The files that are neither kept nor among `changed`, by their content.
    fn removed(&self, changed: &[FileEntry]) -> HashMap<String, FileRecord> {
        let kept: HashSet<&str> = self.new.files.iter().map(|file| file.path.as_str()).collect();
        let changed: HashSet<&str> = changed.iter().map(|entry| entry.path.as_str()).collect();
        let gone = |file: &&FileRecord| !kept.contains(file.path.as_str()) && !changed.contains(file.path.as_str());
        self.old.files.iter().filter(gone).map(|file| (file.hash.clone(), file.clone())).collect()
    }

    /// Indexes a new or changed file, unless its content is there already.
    fn bring_in(
        &mut self,
        entry: &FileEntry,
        removed: &HashMap<String, FileRecord>,
        moved: &mut HashSet<u64>,
        texts: &mut TextsWriter<'_>,
    ) -> Result<()> {
        let before = self.old.files.iter().find(|file| file.path == entry.path).cloned();
        match self.read(entry, before.as_ref()) {
            Err(skipped) => {
                self.forget(before);
                self.new.skipped.push(SkippedRecord::of(&skipped, entry.size, entry.modified_ns));
                self.skip(&skipped);
            }
            // The same bytes at another time.
            Ok(None) => {
                self.new.files.extend(before.map(|file| FileRecord { modified_ns: entry.modified_ns, ..file }));
                self.report.unchanged += 1;
            }
            Ok(Some(document)) => {
                let hash = hex(&document.hash);
                // Only a file of the same kind was split the same way.
                let source = removed.get(&hash).filter(|file| file.kind == document.kind.to_string());
                if let Some(file) = source.filter(|file| moved.insert(file.first_doc)) {
                    self.forget(before);
                    let (path, modified_ns) = (entry.path.clone(), entry.modified_ns);
                    self.new.files.push(FileRecord { path, modified_ns, ..file.clone() });
                    self.report.moved += 1;
                } else {
                    let counter = if before.is_some() { &mut self.report.updated } else { &mut self.report.added };
                    *counter += 1;
                    self.forget(before);
                    self.add(entry, hash, document, texts)?;
                }
            }
        }
        self.done_bytes += entry.size;
        if self.waiting.len() >= ENCODE_PASSAGES {
            self.encode()?;
        }
        Ok(())
    }

    /// Reads a file, or `None` where its content is what `before` says.
    fn read(&self, entry: &FileEntry, before: Option<&FileRecord>) -> Result<Option<Document>, Skipped> {
        if let Some(before) = before
            && hex(&ingest::hash_file(&self.index.root, entry)?) == before.hash
        {
            return Ok(None);
        }
        let encoder = &self.index.encoder;
        let count = |text: &str| encoder.count_tokens(text);
        let document = ingest::read_document(&self.index.root, entry, &self.options.passages, &count)?;
        if document.passages.is_empty() {
            return Err(Skipped { path: entry.path.clone(), reason: SkipReason::Empty });
        }
        Ok(Some(document))
    }

    fn add(&mut self, entry: &FileEntry, hash: String, document: Document, texts: &mut TextsWriter<'_>) -> Result<()> {
        let first_doc = self.new.next_doc;
        self.new.next_doc += document.passages.len() as u64;
        let text: String = document.passages.iter().map(|passage| passage.text.as_str()).collect();
        let block = texts.add(&text)?;
        let mut passages = Vec::with_capacity(document.passages.len());
        for (passage, id) in document.passages.into_iter().zip(first_doc..) {
            let context = context(document.title.as_deref(), &passage.headings, &passage.text);
            self.waiting.push((DocId(id), context + &passage.text));
            passages.push(PassageRecord {
                span: (passage.span.start, passage.span.end),
                lines: (*passage.lines.start(), *passage.lines.end()),
                headings: passage.headings,
                bytes: passage.text.len() as u32,
            });
        }
        self.new.files.push(FileRecord {
            path: entry.path.clone(),
            size: entry.size,
            modified_ns: entry.modified_ns,
            hash,
            kind: document.kind.to_string(),
            title: document.title,
            first_doc,
            passages,
            block,
        });
        Ok(())
    }

    /// Encodes what waits.
    fn encode(&mut self) -> Result<()> {
        for batch in self.waiting.chunks(ENCODE_PASSAGES) {
            if self.monitor.cancelled() {
                return Err(latewood_engine::Error::Cancelled.into());
            }
            let texts: Vec<&str> = batch.iter().map(|(_, text)| text.as_str()).collect();
            for ((doc, _), encoded) in batch.iter().zip(self.index.encoder.encode_documents(&texts)?) {
                self.report.tokens += encoded.embeddings.view().len() as u64;
                self.writer.add(*doc, encoded.embeddings.view())?;
            }
            self.report.passages += batch.len();
        }
        self.waiting.clear();
        self.monitor.event(Event::Encoded { bytes: self.done_bytes, passages: self.report.passages });
        Ok(())
    }

    /// Takes a file's passages out of the index.
    fn forget(&mut self, file: Option<FileRecord>) {
        file.iter().flat_map(FileRecord::docs).for_each(|doc| _ = self.writer.delete(DocId(doc)));
    }

    fn skip(&mut self, skipped: &Skipped) {
        let left_out = LeftOut::from(skipped);
        self.monitor.event(Event::Skipped(&left_out));
        self.report.skipped.push(left_out);
    }
}

/// What the model reads before a passage: where it stands, as far as its own text does not say so.
fn context(title: Option<&str>, headings: &[String], text: &str) -> String {
    let mut parts: Vec<&str> = title.into_iter().collect();
    parts.extend(headings.iter().map(String::as_str).filter(|&heading| Some(heading) != title));
    parts.retain(|part| !text.lines().take(3).any(|line| line.contains(part)));
    if parts.is_empty() { String::new() } else { parts.join(" > ") + "\n" }
}

/// The engine's progress as events.
struct EngineProgress<'a>(&'a dyn Monitor);

impl Progress for EngineProgress<'_> {
    fn report(&self, stage: Stage, done: u64, total: u64) {
        self.0.event(Event::Building { stage, done, total });
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

impl TextIndex {
    /// Removes the index's folder if it was made for nothing: for callers whose first sync found no documents.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_if_empty(self) -> Result<()> {
        let reader = self.reader()?;
        let path: &Path = self.path();
        if reader.catalog().files.is_empty() && reader.info().generation <= 2 {
            std::fs::remove_dir_all(path).map_err(|e| Error::io("remove", path, e))?;
        }
        Ok(())
    }
}
