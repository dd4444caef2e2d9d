//! The catalogue: which file each passage came from, and where its text is kept.
//!
//! It travels as the payload of the engine's commit, so vectors and catalogue are published in one step: what is said of the
//! index as a whole, and where the parts are that say what is known of its documents ([`Files`]). Both are zstd-compressed
//! JSON; index-format.md says which fields.

mod files;
mod runs;

use std::collections::{BTreeMap, HashMap};

use latewood_engine::{Bytes, Directory};
use latewood_ingest::Skipped;
use serde::{Deserialize, Serialize};

use crate::blocks::{self, BlockWriter, Kind, checked, decompress};
use crate::budget::Tuned;
use crate::error::{Error, Result};
use crate::keywords::KeywordsRecord;
use files::PartRecord;
pub use files::{Files, FilesIter};
pub(crate) use runs::Runs;

/// The version of the JSON below.
const VERSION: u32 = 2;
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
    /// Which fields of records are read, as [`latewood_ingest::Fields`] writes them; by their names where nothing is said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) fields: String,
    /// Indexed files, in the order of their paths.
    #[serde(skip)]
    pub files: Files,
    /// Where those are, as the commit says.
    parts: Vec<PartRecord>,
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
            fields: String::new(),
            files: Files::default(),
            parts: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Reads a commit's payload and the parts that it names; `None` where the commit has none. `known` is the catalogue of
    /// another commit of the index, whose parts need not be read again.
    pub(crate) fn read(payload: &[u8], directory: &dyn Directory, known: Option<&Self>) -> Result<Option<Self>> {
        if payload.is_empty() {
            return Ok(None);
        }
        let damaged = |detail: String| Error::Damaged { file: directory.path().into(), what: "catalogue", detail };
        let json = decompress(payload, MAX_BYTES).map_err(&damaged)?;
        let Version { version } = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
        if version != VERSION {
            return Err(Error::OtherVersion { index: directory.path().into(), expected: VERSION, found: version });
        }
        let mut catalog: Self = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
        let mut opened = BTreeMap::new();
        let none = Files::default();
        let known = known.map_or(&none, |known| &known.files);
        let files = Files::read(&catalog.parts, known, |block| read_part(directory, &mut opened, block))?;
        catalog.files = files.map_err(&damaged)?;
        catalog.check().map_err(damaged)?;
        Ok(Some(catalog))
    }

    /// Writes the parts that have changed into the file of this commit, and copies those of worn files.
    pub(crate) fn write_parts(&mut self, directory: &dyn Directory, writer: &mut BlockWriter<'_>) -> Result<()> {
        let worn = writer.worn(self.part_blocks())?;
        self.parts = self.files.place(|block, files| match block {
            Some(block) => match worn.get(&block.blob) {
                Some(bytes) => writer.copy(checked(bytes, &block).map_err(|e| part_damaged(directory, &block, e))?),
                None => Ok(block),
            },
            None => {
                let json = serde_json::to_vec(files).map_err(|e| Error::io("write", "catalogue", e.into()))?;
                writer.add(&json)
            }
        })?;
        Ok(())
    }

    /// Where the parts are that a commit names.
    pub(crate) fn part_blocks(&self) -> impl Iterator<Item = Block> {
        self.parts.iter().map(|part| part.block)
    }

    /// The bytes that [`Catalog::read`] reads; parts are as they were written last.
    pub(crate) fn to_payload(&self) -> Result<Vec<u8>> {
        let write = || zstd::bulk::compress(&serde_json::to_vec(self)?, 3);
        write().map_err(|e| Error::io("write", "catalogue", e))
    }

    /// The document of the given path or id.
    pub fn get(&self, path: &str) -> Option<&FileRecord> {
        self.files.get(path)
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
        match Runs::new(self).shared() {
            Some(id) => Err(format!("id {id} belongs to two files")),
            None => Ok(()),
        }
    }
}

/// What every version of the catalogue begins with.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn read_part(directory: &dyn Directory, opened: &mut BTreeMap<u32, Bytes>, block: &Block) -> Result<Vec<FileRecord>> {
    let bytes = match opened.entry(block.blob) {
        std::collections::btree_map::Entry::Occupied(bytes) => bytes.into_mut(),
        std::collections::btree_map::Entry::Vacant(none) => {
            none.insert(directory.open(&Kind::Catalog.name(block.blob))?)
        }
    };
    let json = checked(bytes, block).and_then(|bytes| decompress(bytes, MAX_BYTES));
    let files = json.and_then(|json| serde_json::from_slice(&json).map_err(|e| e.to_string()));
    files.map_err(|e| part_damaged(directory, block, e))
}

fn part_damaged(directory: &dyn Directory, block: &Block, detail: String) -> Error {
    blocks::damaged(directory.path(), Kind::Catalog, block, detail)
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

#[cfg(test)]
mod tests;
