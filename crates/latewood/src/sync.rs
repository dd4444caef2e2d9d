//! Bringing an index up to date with its folder.
//!
//! Files whose size and time are as catalogued are left alone, the others are hashed, and only content that was
//! not there before is split and encoded: a touched or moved file costs a hash. One commit publishes everything.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use latewood_engine::{IndexWriter, Stage};
use latewood_ingest::{
    self as ingest, Document, Extractor, Fields, FileEntry, PassageOptions, ReadOptions, SkipReason, Skipped,
    WalkOptions, holds_records,
};

use crate::catalog::{Catalog, FileRecord, Metadata, SkippedRecord, Source};
use crate::error::{Error, Result};
use crate::intake::{Encoded, Intake, Placed};
use crate::keywords;
use crate::location::relative;
use crate::text_index::TextIndex;

/// A file changed within this time before the last sync may have changed again without a newer time stamp.
const TIME_STAMP_NS: i64 = 2_000_000_000;

/// What to read, and how to split it.
#[derive(Debug, Clone, Default)]
pub struct SyncOptions {
    /// Which files. Documents ([`WalkOptions::documents`]) are listed where there is an extractor.
    pub walk: WalkOptions,
    /// How large passages are.
    pub passages: PassageOptions,
    /// Who takes text out of PDF, office files and e-books: [`ingest::ChildProcess`], or `ingest::InProcess` for documents
    /// that can be trusted. Without one they are left out.
    pub extractor: Option<Arc<dyn Extractor>>,
    /// Which fields of records are read, in files of JSON lines and of comma-separated values; those of the last time that
    /// it was said, if nothing is. Where it is another than then, such files are read again.
    pub fields: Option<Fields>,
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
    /// Passages that were longer than the model takes: their end is not searched.
    pub truncated: usize,
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
        if self.source == Source::Documents {
            return Err(Error::NoFolder { index: self.path().into() });
        }
        let mut began = now_ns();
        let mut walk = self.walk(options)?;
        // Looked at without the lock first: mostly nothing has changed, and then nobody needs to wait for anybody.
        let (searcher, catalog) = self.newest()?;
        if let Some(report) = unchanged(&catalog, &walk, options)
            && keywords::is_whole(self.path(), catalog.keywords.as_ref())
        {
            return self.refuse_empty(report);
        }
        let writer = self.index.writer()?;
        if self.index.version()? != searcher.version() {
            // Another process committed before the lock was ours, perhaps of files newer than our walk.
            began = now_ns();
            walk = self.walk(options)?;
        }
        drop((searcher, catalog));
        // Nobody else commits from here on.
        let catalog = Catalog::clone(&*self.newest()?.1);
        Sync::new(self, options, monitor, writer, catalog).run(walk, began)
    }

    /// The files of the folder; an index inside of it is none of them, whatever its name.
    fn walk(&self, options: &SyncOptions) -> Result<ingest::Walk> {
        let documents = options.walk.documents || options.extractor.is_some();
        let mut walk = ingest::walk(&self.root, &WalkOptions { documents, ..options.walk.clone() })?;
        let own = fs::canonicalize(self.path()).ok().and_then(|index| relative(&self.root, &index));
        if let Some(own) = own.filter(|own| !own.is_empty()) {
            walk.files.retain(|entry| !entry.path.starts_with(&own));
            walk.skipped.retain(|skipped| !skipped.path.starts_with(&own));
        }
        Ok(walk)
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
fn unchanged(catalog: &Catalog, walk: &ingest::Walk, options: &SyncOptions) -> Option<SyncReport> {
    let known = Known::new(catalog, options);
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
    /// Whether records are read otherwise from now on.
    other_fields: bool,
}

impl<'a> Known<'a> {
    fn new(catalog: &'a Catalog, options: &SyncOptions) -> Self {
        let skipped = catalog.skipped.iter().map(|s| (s.path.as_str(), s)).collect();
        let other_fields = other_fields(catalog, options);
        Self { files: catalog.by_path(), skipped, synced_ns: catalog.synced_ns, other_fields }
    }

    /// Whether size and time say that a file is as it was read.
    fn is_current(&self, entry: &FileEntry) -> bool {
        let file = self.files.get(entry.path.as_str()).map(|f| (f.size, f.modified_ns));
        let skipped = || self.skipped.get(entry.path.as_str()).map(|s| (s.size, s.modified_ns));
        file.or_else(skipped) == Some((entry.size, entry.modified_ns))
            && entry.modified_ns < self.synced_ns - TIME_STAMP_NS
            && !(self.other_fields && holds_records(&entry.path))
    }
}

/// Whether `options` say that records are to be read otherwise than they were.
fn other_fields(catalog: &Catalog, options: &SyncOptions) -> bool {
    options.fields.as_ref().is_some_and(|fields| fields.to_string() != catalog.fields)
}

/// A sync under way.
struct Sync<'a> {
    index: &'a TextIndex,
    options: &'a SyncOptions,
    monitor: &'a dyn Monitor,
    intake: Intake<'a>,
    old: Catalog,
    new: Catalog,
    report: SyncReport,
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
        let (mut new, intake) = (old.clone(), Intake::new(index, writer, &old));
        new.skipped.clear();
        if let Some(fields) = &options.fields {
            new.fields = fields.to_string();
        }
        Self { index, options, monitor, intake, old, new, report: SyncReport::default(), done_bytes: 0 }
    }

    fn run(mut self, walk: ingest::Walk, began: i64) -> Result<SyncReport> {
        for skipped in &walk.skipped {
            self.skip(skipped);
        }
        let mut removed = self.take_removed(&walk);
        let changed = self.keep_current(walk.files);
        let bytes = changed.iter().map(|entry| entry.size).sum();
        self.monitor.event(Event::Found { files: changed.len(), bytes });
        let before: HashMap<&str, FileRecord> = {
            let known = self.old.by_path();
            changed.iter().filter_map(|e| Some((e.path.as_str(), (*known.get(e.path.as_str())?).clone()))).collect()
        };
        for entry in &changed {
            self.bring_in(entry, before.get(entry.path.as_str()), &mut removed)?;
        }
        self.encode()?;
        for file in removed.into_values().flatten() {
            self.report.removed += 1;
            self.forget(Some(&file))?;
        }
        if self.new.files.is_empty() {
            // Nothing is committed: a folder that is not mounted today must not cost its index.
            return self.index.refuse_empty(self.report);
        }
        // Files so new that their time stamps do not tell are looked at again until a later commit.
        let whole = !self.intake.keywords_begin();
        // A stamp that lies in the future never tells anything.
        let fresh =
            changed.iter().any(|entry| (self.old.synced_ns - TIME_STAMP_NS..began).contains(&entry.modified_ns));
        if whole
            && !fresh
            && self.new.files == self.old.files
            && self.new.skipped == self.old.skipped
            && self.new.fields == self.old.fields
        {
            return Ok(self.report);
        }
        self.new.synced_ns = began;
        self.intake.commit(&mut self.new, self.monitor)?;
        Ok(self.report)
    }

    /// Takes over what has not changed; returns the rest.
    fn keep_current(&mut self, files: Vec<FileEntry>) -> Vec<FileEntry> {
        let known = Known::new(&self.old, self.options);
        let (current, changed): (Vec<_>, Vec<_>) = files.into_iter().partition(|entry| known.is_current(entry));
        for entry in &current {
            if known.files.contains_key(entry.path.as_str()) {
                self.report.unchanged += 1;
            } else if let Some(&skipped) = known.skipped.get(entry.path.as_str()) {
                self.new.skipped.push(skipped.clone());
                self.report.skipped.push(skipped.into());
            }
        }
        changed
    }

    /// Takes out the files that are no longer there; by their content, which several may have had. What cannot be read now may
    /// be readable again tomorrow, a folder as well as a file: it stays.
    fn take_removed(&mut self, walk: &ingest::Walk) -> HashMap<String, Vec<FileRecord>> {
        let there: HashSet<&str> = walk.files.iter().map(|entry| entry.path.as_str()).collect();
        let unreadable = |skipped: &&Skipped| matches!(skipped.reason, SkipReason::Unreadable(_));
        let unreadable: Vec<&str> =
            walk.skipped.iter().filter(unreadable).map(|skipped| skipped.path.as_str()).collect();
        let is_hidden = |path: &str| {
            let below =
                |folder: &&str| path.strip_prefix(*folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            unreadable.iter().any(below)
        };
        let mut removed: HashMap<String, Vec<FileRecord>> = HashMap::new();
        for file in self.old.files.iter().filter(|file| !there.contains(file.path.as_str())) {
            if is_hidden(&file.path) {
                self.report.unchanged += 1;
                continue;
            }
            self.new.files.remove(&file.path);
            removed.entry(file.hash.clone()).or_default().push(file.clone());
        }
        removed
    }

    /// Indexes a new or changed file, unless its content is there already. `before` is what was known of its path.
    fn bring_in(
        &mut self,
        entry: &FileEntry,
        before: Option<&FileRecord>,
        removed: &mut HashMap<String, Vec<FileRecord>>,
    ) -> Result<()> {
        match self.read(entry, before) {
            // It may be readable again tomorrow: what is known of it stays, and it is tried again.
            Err(skipped @ Skipped { reason: SkipReason::Unreadable(_), .. }) => {
                self.skip(&skipped);
            }
            Err(skipped) => {
                self.forget(before)?;
                self.new.files.remove(&entry.path);
                self.new.skipped.push(SkippedRecord::of(&skipped, entry.size, entry.modified_ns));
                self.skip(&skipped);
            }
            // The same bytes at another time.
            Ok(None) => {
                self.new.files.change(&entry.path, |file| file.modified_ns = entry.modified_ns);
                self.report.unchanged += 1;
            }
            Ok(Some(document)) => {
                self.forget(before)?;
                let hash = hex(&document.hash);
                let otherwise = other_fields(&self.old, self.options) && holds_records(&entry.path);
                let source = if otherwise { None } else { take(removed, &hash, &document.kind.to_string()) };
                if let Some(source) = source {
                    let (path, modified_ns) = (entry.path.clone(), entry.modified_ns);
                    self.new.files.insert(FileRecord { path, modified_ns, ..source });
                    self.report.moved += 1;
                } else {
                    let counter = if before.is_some() { &mut self.report.updated } else { &mut self.report.added };
                    *counter += 1;
                    self.add(entry, hash, document)?;
                }
            }
        }
        self.done_bytes += entry.size;
        if self.intake.is_full() {
            self.encode()?;
        }
        Ok(())
    }

    /// Reads a file, or `None` where its content is what `before` says.
    fn read(&self, entry: &FileEntry, before: Option<&FileRecord>) -> Result<Option<Document>, Skipped> {
        let otherwise = other_fields(&self.old, self.options) && holds_records(&entry.path);
        if let Some(before) = before
            && !otherwise
            && hex(&ingest::hash_file(&self.index.root, entry)?) == before.hash
        {
            return Ok(None);
        }
        let encoder = &self.index.encoder;
        let count = |text: &str| encoder.count_tokens(text);
        let passages = self.intake.passage_options(&self.options.passages);
        let (extractor, max_file_bytes) = (self.options.extractor.clone(), self.options.walk.max_file_bytes);
        // What another version wrote and this one does not read is as if nothing had been said.
        let fields = self.new.fields.parse().unwrap_or_default();
        let options = ReadOptions { passages, extractor, fields, max_file_bytes };
        let document = ingest::read_document(&self.index.root, entry, &options, &count)?;
        if document.passages.is_empty() {
            return Err(Skipped { path: entry.path.clone(), reason: SkipReason::Empty });
        }
        Ok(Some(document))
    }

    fn add(&mut self, entry: &FileEntry, hash: String, document: Document) -> Result<()> {
        let Document { kind, title, passages, .. } = document;
        let Placed { first_doc, passages, block } = self.intake.add(title.as_deref(), passages)?;
        self.new.files.insert(FileRecord {
            path: entry.path.clone(),
            size: entry.size,
            modified_ns: entry.modified_ns,
            hash,
            kind: kind.to_string(),
            title,
            metadata: Metadata::default(),
            first_doc,
            passages,
            block,
        });
        Ok(())
    }

    /// Encodes what waits.
    fn encode(&mut self) -> Result<()> {
        self.intake.encode(self.monitor)?;
        let Encoded { passages, tokens, truncated } = self.intake.encoded;
        (self.report.passages, self.report.tokens, self.report.truncated) = (passages, tokens, truncated);
        self.monitor.event(Event::Encoded { bytes: self.done_bytes, passages });
        Ok(())
    }

    /// Takes a file's passages out of the index.
    fn forget(&mut self, file: Option<&FileRecord>) -> Result<()> {
        file.into_iter().try_for_each(|file| self.intake.forget(file))
    }

    fn skip(&mut self, skipped: &Skipped) {
        let left_out = LeftOut::from(skipped);
        self.monitor.event(Event::Skipped(&left_out));
        self.report.skipped.push(left_out);
    }
}

/// A removed file of the same content and kind, which was therefore split in the same way.
fn take(removed: &mut HashMap<String, Vec<FileRecord>>, hash: &str, kind: &str) -> Option<FileRecord> {
    let files = removed.get_mut(hash)?;
    let at = files.iter().position(|file| file.kind == kind)?;
    Some(files.swap_remove(at))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
