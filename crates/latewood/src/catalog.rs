//! The catalogue: which file each passage came from, and where its text is kept.
//!
//! It travels as the payload of the engine's commit, so vectors and catalogue are published in one step.
//! On disk it is zstd-compressed JSON; index-format.md says which fields.

use std::collections::HashMap;
use std::path::Path;

use latewood_engine::DocId;
use latewood_ingest::Skipped;
use serde::{Deserialize, Serialize};

use crate::budget::Tuned;
use crate::error::{Error, Result};
use crate::keywords::KeywordsRecord;

/// The version of the JSON below.
const VERSION: u32 = 1;
/// No catalogue is larger than this when decompressed: a larger one is damage, not data.
const MAX_BYTES: usize = 4 << 30;

/// Everything known of the documents of an index but their vectors and their text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    version: u32,
    /// Where its documents come from.
    #[serde(default, skip_serializing_if = "Source::is_folder")]
    pub source: Source,
    /// The indexed folder, absolute; none where the index lies inside it, so that the two can move together.
    pub root: Option<String>,
    /// When the last sync began, in nanoseconds since 1970: what changed after may have been missed.
    pub synced_ns: i64,
    /// The next document's id.
    pub next_doc: u64,
    /// Number of the next file of texts.
    pub next_blob: u32,
    /// The commit of keywords; none in an index of before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keywords: Option<KeywordsRecord>,
    /// How much searches look at; as is usual unless it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<Tuned>,
    /// Indexed files, by path.
    pub files: Vec<FileRecord>,
    /// Files that were read and left out, by path: they are not read again until they change.
    pub skipped: Vec<SkippedRecord>,
}

/// Where an index has its documents from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// The files of a folder ([`crate::TextIndex::sync`]).
    #[default]
    Folder,
    /// Added one by one ([`crate::TextIndex::writer`]).
    Documents,
}

impl Source {
    fn is_folder(&self) -> bool {
        *self == Self::Folder
    }
}

/// What is known of a document beside its text: names and values.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// An indexed file, or a document that was added by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Relative to the root, `/`-separated; of a document that was added by itself, its id.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
    /// BLAKE3 of the content, in hexadecimal.
    pub hash: String,
    /// What it was read as.
    pub kind: String,
    /// Its title.
    pub title: Option<String>,
    /// What else is known of it.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Id of its first passage; the others follow.
    pub first_doc: u64,
    /// Its passages, in order.
    pub passages: Vec<PassageRecord>,
    /// Where the passages' text is kept.
    pub block: Block,
}

/// A passage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassageRecord {
    /// First and one past the last byte, in the file's text.
    pub span: (usize, usize),
    /// First and last line, from 1.
    pub lines: (u32, u32),
    /// The page, slide or sheet it begins on, from 1, where its file has such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// The headings above it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<String>,
    /// Bytes of its text in the block.
    pub bytes: u32,
}

/// A file that was left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedRecord {
    /// Relative to the root, `/`-separated.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Why.
    pub reason: String,
}

/// A compressed run of a file of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Number of the file of texts.
    pub blob: u32,
    /// First byte.
    pub start: u64,
    /// Bytes, compressed.
    pub len: u32,
    /// XXH3 of the compressed bytes.
    pub hash: u64,
}

impl Catalog {
    /// Of an empty index.
    pub(crate) fn new(source: Source, root: Option<String>) -> Self {
        Self {
            version: VERSION,
            source,
            root,
            synced_ns: 0,
            next_doc: 0,
            next_blob: 0,
            keywords: None,
            tuned: None,
            files: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Without files, its ids going on from this one's.
    pub(crate) fn successor(&self) -> Self {
        let (next_doc, next_blob, keywords) = (self.next_doc, self.next_blob, self.keywords.clone());
        Self { next_doc, next_blob, keywords, tuned: self.tuned, ..Self::new(self.source, self.root.clone()) }
    }

    /// Reads a commit's payload; `None` where the commit has none.
    pub(crate) fn from_payload(payload: &[u8], index: &Path) -> Result<Option<Self>> {
        if payload.is_empty() {
            return Ok(None);
        }
        let damaged = |detail: String| Error::Damaged { file: index.into(), what: "catalogue", detail };
        let json = decompress(payload, MAX_BYTES).map_err(&damaged)?;
        let catalog: Self = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
        if catalog.version != VERSION {
            let text = format!("version {} where this Latewood reads {VERSION}", catalog.version);
            return Err(damaged(text));
        }
        catalog.check().map_err(damaged)?;
        Ok(Some(catalog))
    }

    /// The bytes that [`Catalog::from_payload`] reads.
    pub(crate) fn to_payload(&self) -> Result<Vec<u8>> {
        let write = || zstd::bulk::compress(&serde_json::to_vec(self)?, 3);
        write().map_err(|e| Error::io("write", "catalogue", e))
    }

    /// The document of the given path or id. Documents lie in the order of their paths.
    pub fn get(&self, path: &str) -> Option<&FileRecord> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        Some(&self.files[at])
    }

    /// Number of passages.
    pub fn passage_count(&self) -> usize {
        self.files.iter().map(|file| file.passages.len()).sum()
    }

    /// The records by path.
    pub(crate) fn by_path(&self) -> HashMap<&str, &FileRecord> {
        self.files.iter().map(|file| (file.path.as_str(), file)).collect()
    }

    /// That ids are there once each and below the next one.
    fn check(&self) -> Result<(), String> {
        let out_of_range = |file: &FileRecord| format!("{}: its ids are out of range", file.path);
        for file in &self.files {
            let end = file.first_doc.checked_add(file.passages.len() as u64).filter(|&end| end <= self.next_doc);
            end.ok_or_else(|| out_of_range(file))?;
        }
        let runs = Runs::new(self);
        match runs.0.windows(2).find(|pair| pair[0].end > pair[1].start) {
            Some(pair) => Err(format!("id {} belongs to two files", pair[1].start)),
            None => Ok(()),
        }
    }
}

/// Which document each passage belongs to.
#[derive(Debug)]
pub(crate) struct Runs(Vec<Run>);

/// The passages of one document.
#[derive(Debug)]
struct Run {
    start: u64,
    end: u64,
    file: usize,
}

impl Runs {
    pub(crate) fn new(catalog: &Catalog) -> Self {
        let files = catalog.files.iter().enumerate();
        let mut runs: Vec<Run> = files
            .map(|(at, file)| Run { start: file.first_doc, end: file.first_doc + file.passages.len() as u64, file: at })
            .collect();
        runs.sort_unstable_by_key(|run| (run.start, run.end));
        Self(runs)
    }

    /// The document and the position in it of a passage.
    pub(crate) fn find<'c>(&self, catalog: &'c Catalog, doc: DocId) -> Option<(&'c FileRecord, usize)> {
        let after = self.0.partition_point(|run| run.start <= doc.0);
        let run = self.0[..after].last().filter(|run| doc.0 < run.end)?;
        Some((&catalog.files[run.file], (doc.0 - run.start) as usize))
    }
}

impl FileRecord {
    /// When it was modified or added, as `2026-03-01T12:00:00Z`.
    pub fn modified(&self) -> String {
        jiff::Timestamp::from_second(self.modified_ns.div_euclid(1_000_000_000)).unwrap_or_default().to_string()
    }

    /// The ids of its passages.
    pub fn docs(&self) -> std::ops::Range<u64> {
        self.first_doc..self.first_doc + self.passages.len() as u64
    }
}

impl SkippedRecord {
    pub(crate) fn of(skipped: &Skipped, size: u64, modified_ns: i64) -> Self {
        Self { path: skipped.path.clone(), size, modified_ns, reason: skipped.reason.to_string() }
    }
}

/// Decompresses what may be damaged: never more than `limit` bytes.
pub(crate) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut out = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(bytes).map_err(|e| e.to_string())?;
    decoder.take(limit as u64 + 1).read_to_end(&mut out).map_err(|e| e.to_string())?;
    if out.len() > limit { Err(format!("more than {limit} bytes")) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, first_doc: u64, passages: usize) -> FileRecord {
        FileRecord {
            path: path.into(),
            size: 1,
            modified_ns: 2,
            hash: "00".into(),
            kind: "markdown".into(),
            title: None,
            metadata: Metadata::new(),
            first_doc,
            passages: vec![
                PassageRecord { span: (0, 1), lines: (1, 1), page: None, headings: vec![], bytes: 1 };
                passages
            ],
            block: Block { blob: 0, start: 0, len: 1, hash: 0 },
        }
    }

    #[test]
    fn payloads_round_trip_and_passages_are_found() {
        let mut catalog = Catalog::new(Source::Folder, None);
        catalog.files = vec![file("b", 10, 2), file("a", 4, 3)];
        catalog.next_doc = 12;
        let payload = catalog.to_payload().unwrap();
        let back = Catalog::from_payload(&payload, Path::new("x")).unwrap().unwrap();
        assert_eq!(back, catalog);
        let runs = Runs::new(&back);
        let found = |doc| runs.find(&back, DocId(doc)).map(|(file, at)| (file.path.as_str(), at));
        assert_eq!((found(4), found(6), found(11)), (Some(("a", 0)), Some(("a", 2)), Some(("b", 1))));
        assert_eq!((found(3), found(7), found(12)), (None, None, None));
    }

    #[test]
    fn damage_is_an_error_and_not_a_panic() {
        let mut catalog = Catalog::new(Source::Folder, None);
        catalog.files = vec![file("a", 0, 3), file("b", 2, 1)];
        catalog.next_doc = 3;
        let overlapping = catalog.to_payload().unwrap();
        assert!(Catalog::from_payload(&overlapping, Path::new("x")).unwrap_err().to_string().contains("two files"));
        catalog.files[1].first_doc = u64::MAX;
        assert!(Catalog::from_payload(&catalog.to_payload().unwrap(), Path::new("x")).is_err());
        assert!(Catalog::from_payload(b"not zstd", Path::new("x")).is_err());
        assert!(Catalog::from_payload(&overlapping[..20], Path::new("x")).is_err());
    }
}
