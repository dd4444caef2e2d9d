//! An index: shards, tombstones and codecs under one manifest.
//!
//! Files are written once; what is live is said by the manifest alone, and a commit replaces it atomically.
//! A reader pins the manifest it opened, one writer at a time holds the lock.

mod budget;
mod builder;
mod manifest;
mod merge;
mod policy;
mod spool;
mod writer;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use roaring::{RoaringBitmap, RoaringTreemap};

use crate::backend::{Backend, CpuBackend};
use crate::codec::{ResidualCodec, check_bits};
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::ids::{DocId, DocOrd};
use crate::search::Searcher;
use crate::shard::Shard;

pub(crate) use manifest::{Manifest, ShardEntry};
pub use merge::Merge;
pub use writer::{Commit, IndexWriter};

/// What an index is made with, once.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct IndexOptions {
    /// Dimensions of the embeddings: a multiple of 8, up to [`crate::MAX_DIM`].
    pub dim: usize,
    /// Bits a dimension of a token's residual: 1, 2 or 4.
    pub bits: u32,
    /// Whether to keep four more bits a dimension, read only for the documents that the first bits have chosen: nearly
    /// exact scores for about twice the bytes.
    pub fine: bool,
    /// What made the embeddings, in the caller's words; the engine keeps it and reads nothing in it.
    pub model: Option<String>,
    /// Seed of all that is random in training.
    pub seed: u64,
    /// The caller's payload of the first, empty commit.
    pub payload: Vec<u8>,
}

impl IndexOptions {
    /// 4 bits, no model.
    pub fn new(dim: usize) -> Self {
        Self { dim, bits: 4, fine: false, model: None, seed: 42, payload: Vec::new() }
    }

    /// With `bits` bits a dimension.
    #[must_use]
    pub fn bits(self, bits: u32) -> Self {
        Self { bits, ..self }
    }

    /// With fine codes, or without.
    #[must_use]
    pub fn fine(self, fine: bool) -> Self {
        Self { fine, ..self }
    }

    /// With a payload for the first, empty commit.
    #[must_use]
    pub fn payload(self, payload: Vec<u8>) -> Self {
        Self { payload, ..self }
    }

    /// With the name of what made the embeddings.
    #[must_use]
    pub fn model(self, model: impl Into<String>) -> Self {
        Self { model: Some(model.into()), ..self }
    }
}

/// What a commit is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Clustering a sample into centroids; counted in passes.
    Train,
    /// Coding tokens; counted in tokens.
    Code,
    /// Joining shards; counted in documents.
    Merge,
    /// Checking shards; counted in shards.
    Verify,
}

/// Hears how far a commit is, and may stop it; `()` does neither.
pub trait Progress {
    /// `done` of `total` steps of `stage`.
    fn report(&self, stage: Stage, done: u64, total: u64) {
        let _ = (stage, done, total);
    }

    /// Whether to stop: asked now and then; the commit then fails with [`Error::Cancelled`] and nothing changes.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Progress for () {}

/// A snapshot's figures.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IndexInfo {
    /// Counts commits.
    pub generation: u64,
    /// Dimensions.
    pub dim: usize,
    /// Bits a dimension.
    pub bits: u32,
    /// Whether tokens have fine codes.
    pub fine: bool,
    /// What made the embeddings.
    pub model: Option<String>,
    /// Each shard.
    pub shards: Vec<ShardInfo>,
    /// Bytes of all codecs.
    pub codec_bytes: u64,
}

/// A shard's figures.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShardInfo {
    /// Its file.
    pub file: String,
    /// Documents, deleted ones included.
    pub docs: usize,
    /// Deleted documents.
    pub deleted: usize,
    /// Tokens, those of deleted documents included.
    pub tokens: usize,
    /// Centroids of its codec.
    pub centroids: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its sections by name, and their bytes.
    pub sections: Vec<(&'static str, u64)>,
}

impl IndexInfo {
    /// Live documents.
    pub fn docs(&self) -> usize {
        self.shards.iter().map(|s| s.docs - s.deleted).sum()
    }

    /// Tokens, those of deleted documents included.
    pub fn tokens(&self) -> usize {
        self.shards.iter().map(|s| s.tokens).sum()
    }

    /// Bytes of shards and codecs.
    pub fn bytes(&self) -> u64 {
        self.codec_bytes + self.shards.iter().map(|s| s.bytes).sum::<u64>()
    }
}

/// A place that holds an index.
#[derive(Debug, Clone)]
pub struct Index {
    directory: Arc<dyn Directory>,
    backend: Arc<dyn Backend>,
}

impl Index {
    /// Makes an empty index.
    ///
    /// # Errors
    /// When the options are out of range, there is an index already, or it cannot be written.
    pub fn create(directory: impl Directory + 'static, options: IndexOptions) -> Result<Self> {
        let index = Self { directory: Arc::new(directory), backend: Arc::new(CpuBackend::new()) };
        check_bits(options.bits)?;
        if options.dim == 0 || options.dim > crate::MAX_DIM || !options.dim.is_multiple_of(8) {
            return Err(Error::UnsupportedDim { dim: options.dim });
        }
        let _lock = index.directory.lock()?;
        if Manifest::exists(&*index.directory)? {
            return Err(Error::IndexExists { dir: index.directory.path().into() });
        }
        Manifest::new(&options).publish(&*index.directory, &[], &options.payload)?;
        Ok(index)
    }

    /// The index in `directory`. Opening writes nothing.
    ///
    /// # Errors
    /// When there is none, or its manifest is damaged or from a newer version.
    pub fn open(directory: impl Directory + 'static) -> Result<Self> {
        let index = Self { directory: Arc::new(directory), backend: Arc::new(CpuBackend::new()) };
        Manifest::read(&*index.directory)?;
        Ok(index)
    }

    /// With arithmetic on another backend.
    #[must_use]
    pub fn with_backend(self, backend: impl Backend + 'static) -> Self {
        Self { backend: Arc::new(backend), ..self }
    }

    /// Where the files live.
    pub fn directory(&self) -> &dyn Directory {
        &*self.directory
    }

    /// What tells the newest commit from every other: cheap to ask, and not [`Searcher::version`] where that one is
    /// behind.
    ///
    /// # Errors
    /// When the manifest is missing or damaged.
    pub fn version(&self) -> Result<u64> {
        Manifest::newest_digest(&*self.directory)
    }

    /// A reader of the newest commit, which it keeps whatever is committed later.
    ///
    /// # Errors
    /// When a file is missing, damaged or from a newer version.
    pub fn searcher(&self) -> Result<Searcher> {
        Ok(Searcher::new(Snapshot::open(&self.directory)?, self.backend.clone()))
    }

    /// Reads everything that the newest commit names and checks every checksum and cross-reference; `progress` hears of
    /// shards done ([`Stage::Verify`]). Returns what is wrong, file by file: nothing in a sound index.
    pub fn verify(&self, progress: &dyn Progress) -> Vec<Error> {
        let snapshot = match Snapshot::open(&self.directory) {
            Ok(snapshot) => snapshot,
            Err(e) => return vec![e],
        };
        let total = snapshot.shards.len() as u64;
        let codecs = snapshot.manifest.codecs.iter().filter_map(|entry| snapshot.codecs.get(&entry.digest));
        let mut wrong: Vec<Error> = codecs.filter_map(|codec| codec.verify(self.backend.cpu()).err()).collect();
        let mut alive = RoaringTreemap::new();
        for (done, live) in (0..).zip(&snapshot.shards) {
            progress.report(Stage::Verify, done, total);
            wrong.extend(live.shard.verify().err());
            let twice = live.docs().map(|doc| live.shard.doc_id(doc)).find(|doc| !alive.insert(doc.0));
            wrong.extend(twice.map(|doc| live.alive_twice(doc)));
        }
        progress.report(Stage::Verify, total, total);
        wrong
    }

    /// The writer; there is one at a time, over all processes.
    ///
    /// # Errors
    /// As [`Index::searcher`], and when another holds the lock.
    pub fn writer(&self) -> Result<IndexWriter> {
        IndexWriter::open(self.directory.clone(), self.backend.clone())
    }
}

/// An open shard and its tombstones.
#[derive(Debug, Clone)]
pub(crate) struct LiveShard {
    pub(crate) entry: ShardEntry,
    pub(crate) shard: Arc<Shard>,
    pub(crate) deleted: RoaringBitmap,
}

impl LiveShard {
    pub(crate) fn live_docs(&self) -> usize {
        self.shard.doc_count() - self.deleted.len() as usize
    }

    /// Tokens of the documents that are not deleted.
    pub(crate) fn live_tokens(&self) -> u64 {
        self.docs().map(|doc| self.shard.token_count_of(doc) as u64).sum()
    }

    /// The documents that are not deleted, ascending.
    pub(crate) fn docs(&self) -> impl Iterator<Item = DocOrd> + '_ {
        (0..self.shard.doc_count() as u32).filter(|&doc| !self.deleted.contains(doc)).map(DocOrd)
    }

    /// Deletes a document; whether it was here and alive.
    pub(crate) fn delete(&mut self, doc: DocId) -> bool {
        self.shard.find(doc).is_some_and(|ord| self.deleted.insert(ord.0))
    }

    /// The error that a document is here and in another shard.
    fn alive_twice(&self, doc: DocId) -> Error {
        self.shard.damaged("document ids", format!("document {} is alive in another shard too", doc.0))
    }
}

/// What one manifest names, opened.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) manifest: Manifest,
    pub(crate) shards: Vec<LiveShard>,
    pub(crate) codecs: HashMap<u64, Arc<ResidualCodec>>,
    pub(crate) payload: Vec<u8>,
}

impl Snapshot {
    /// Opens the newest commit. A commit in between may delete what its predecessor named: then the newer one is read.
    pub(crate) fn open(directory: &Arc<dyn Directory>) -> Result<Self> {
        let mut generation = None;
        loop {
            let (manifest, tombstones, payload) = Manifest::read(&**directory)?;
            let seen = generation.replace(manifest.generation);
            match Self::open_files(&**directory, manifest, tombstones, payload) {
                Err(e) if is_missing(&e) && seen != generation => {}
                result => return result,
            }
        }
    }

    fn open_files(
        directory: &dyn Directory,
        mut manifest: Manifest,
        tombstones: Vec<RoaringBitmap>,
        payload: Vec<u8>,
    ) -> Result<Self> {
        let mut codecs = HashMap::new();
        for entry in &manifest.codecs {
            let codec = ResidualCodec::open(directory, &entry.file)?;
            let fine = codec.fine().is_some();
            if (codec.dim(), codec.bits(), fine) != (manifest.dim, manifest.bits, manifest.fine) {
                let detail = format!("{} dimensions at {} bits, fine codes: {fine}", codec.dim(), codec.bits());
                return Err(Error::Damaged { file: directory.path().join(&entry.file), what: "codec", detail });
            }
            check_digest(directory, &entry.file, entry.digest, codec.digest())?;
            codecs.insert(entry.digest, codec);
        }
        let mut shards = Vec::new();
        for (entry, deleted) in manifest.shards.iter().zip(tombstones) {
            let codec = codecs.get(&entry.codec).cloned().ok_or_else(|| Error::Damaged {
                file: directory.path().join(&entry.file),
                what: "codec",
                detail: "the manifest does not name its codec".into(),
            })?;
            let shard = Shard::open(directory, &entry.file, codec)?;
            check_digest(directory, &entry.file, entry.digest, shard.digest())?;
            if deleted.max().is_some_and(|doc| doc as usize >= shard.doc_count()) {
                return Err(shard.damaged("tombstones", "a deleted document is not in the shard".into()));
            }
            shards.push(LiveShard { entry: entry.clone(), shard: Arc::new(shard), deleted });
        }
        manifest.read_only |= codecs.values().any(|codec| codec.read_only());
        manifest.read_only |= shards.iter().any(|live| live.shard.read_only());
        Ok(Self { manifest, shards, codecs, payload })
    }

    /// What it says of the index, with neither shards nor codecs.
    pub(crate) fn without_shards(&self) -> Self {
        let mut manifest = self.manifest.clone();
        manifest.shards.clear();
        manifest.codecs.clear();
        Self { manifest, shards: Vec::new(), codecs: HashMap::new(), payload: Vec::new() }
    }

    pub(crate) fn info(&self) -> IndexInfo {
        IndexInfo {
            generation: self.manifest.generation,
            dim: self.manifest.dim,
            bits: self.manifest.bits,
            fine: self.manifest.fine,
            model: self.manifest.model.clone(),
            codec_bytes: self.codecs.values().map(|c| c.file_len() as u64).sum(),
            shards: self.shards.iter().map(LiveShard::info).collect(),
        }
    }
}

impl LiveShard {
    fn info(&self) -> ShardInfo {
        ShardInfo {
            file: self.entry.file.clone(),
            docs: self.shard.doc_count(),
            deleted: self.deleted.len() as usize,
            tokens: self.shard.token_count(),
            centroids: self.shard.codec().centroid_count(),
            bytes: self.shard.file_len() as u64,
            sections: self.shard.sections().map(|(name, bytes)| (name, bytes as u64)).collect(),
        }
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// The manifest names files by content as well as by name: a file of another index does not pass for this one's.
fn check_digest(directory: &dyn Directory, file: &str, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let detail = format!("the manifest names another file of this name ({expected:016x}, found {found:016x})");
    Err(Error::Damaged { file: directory.path().join(file), what: "identity", detail })
}
