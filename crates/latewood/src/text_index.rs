//! A folder of documents and its index.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use latewood_encoder::{CachedQueries, Encoder};
use latewood_engine::{self as engine, Index, IndexOptions, MmapDirectory, Searcher};

use crate::catalog::{Catalog, Source};
use crate::device::Opened;
use crate::error::{Error, Result};
use crate::keywords::{self, KeywordsRecord};
use crate::location::{INDEX_DIR, Location, relative};
use crate::own_files::{self, IGNORE, refuse_foreign};
use crate::reader::Reader;

/// The index of a folder of documents.
#[derive(Clone)]
pub struct TextIndex {
    pub(crate) index: Index,
    pub(crate) encoder: Arc<dyn Encoder>,
    pub(crate) root: PathBuf,
    /// The part of the root that was asked about: `/`-separated, with a `/` at the end; empty for all of it.
    pub(crate) within: String,
    pub(crate) source: Source,
    /// The catalogue that was read last, and of which commit: of ten thousand files it takes a while to read.
    read: Arc<Mutex<(u64, Arc<Catalog>)>>,
    /// The keywords that were written last by way of this: what was just written need not be checked byte by byte.
    written: Arc<Mutex<Option<(KeywordsRecord, keywords::Stamps)>>>,
}

impl TextIndex {
    /// Opens the index at `location`, writing nothing.
    ///
    /// # Errors
    /// When there is none, it is damaged, or it was made by another model or for another folder.
    pub fn open(location: Location, encoder: Arc<dyn Encoder>) -> Result<Self> {
        let not_indexed = || Error::NotIndexed { folder: location.asked.clone().unwrap_or(location.index.clone()) };
        let opened = MmapDirectory::open(&location.index).and_then(Index::open);
        let index =
            opened.map_err(|e| if matches!(e, engine::Error::NoIndex { .. }) { not_indexed() } else { e.into() })?;
        let searcher = index.searcher()?;
        check_model(&searcher, &*encoder, &location.index)?;
        let (searcher, catalog) = newest(&index, searcher, None)?;
        let source = catalog.source;
        let root = match source {
            Source::Folder => root(&location, &catalog)?,
            Source::Documents => location.index.clone(),
        };
        let within = match &location.asked {
            None => String::new(),
            Some(asked) => relative(&root, asked).ok_or_else(|| Error::OtherFolder {
                index: location.index.clone(),
                root: root.clone(),
                folder: asked.clone(),
            })?,
        };
        let read = Arc::new(Mutex::new((searcher.version(), Arc::new(catalog))));
        Ok(Self { index, encoder, root, within, source, read, written: Arc::default() })
    }

    /// Searches and builds on another device.
    #[must_use]
    pub fn on(mut self, device: &Opened) -> Self {
        self.index = self.index.with_backend(device.backend());
        self
    }

    /// Remembers encoded queries in at most about `bytes`, so that one asked again costs no encoding.
    #[must_use]
    pub fn remembering_queries(mut self, bytes: usize) -> Self {
        self.encoder = Arc::new(CachedQueries::new(self.encoder, bytes));
        self
    }

    /// The id of the model that made the index at `location`, if there is one: what it says of
    /// [`EncoderOptions`](latewood_encoder::EncoderOptions) is what the index is to be opened with.
    ///
    /// # Errors
    /// When the index is damaged.
    pub fn model(location: &Location) -> Result<Option<String>> {
        match MmapDirectory::open(&location.index).and_then(Index::open) {
            Ok(index) => Ok(index.searcher()?.info().model),
            Err(engine::Error::NoIndex { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the index at `location`, making an empty one where there is none.
    ///
    /// # Errors
    /// As [`TextIndex::open`], and when it cannot be made.
    pub fn open_or_create(location: Location, encoder: Arc<dyn Encoder>) -> Result<Self> {
        match Self::open(location.clone(), encoder.clone()) {
            Err(Error::NotIndexed { .. }) => {}
            result => return result,
        }
        let root = location.root.clone().or(location.asked.clone());
        let root = root.ok_or_else(|| Error::NotIndexed { folder: location.index.clone() })?;
        refuse_foreign(&location.index)?;
        let inside = location.index == root.join(INDEX_DIR);
        let recorded = (!inside).then(|| root.to_string_lossy().into_owned());
        let options = IndexOptions::new(encoder.dim())
            .model(encoder.model_id().as_str())
            .payload(Catalog::new(Source::Folder, recorded).to_payload()?);
        match Index::create(MmapDirectory::create(&location.index)?, options) {
            Ok(_) => {}
            // Another process was quicker.
            Err(engine::Error::IndexExists { .. }) => return Self::open(location, encoder),
            Err(e) => return Err(e.into()),
        }
        if inside {
            // The index is derived from the documents: version control shall leave it alone.
            let ignore = location.index.join(".gitignore");
            fs::write(&ignore, IGNORE).map_err(|e| Error::io("write", ignore, e))?;
        }
        Self::open(location, encoder)
    }

    /// Makes an index at `folder`, new or empty, of documents that are added one by one ([`TextIndex::writer`]). `options`
    /// say how vectors are kept; dimension and model are the encoder's.
    ///
    /// # Errors
    /// When there is an index already, or it cannot be made.
    pub fn create(folder: &Path, encoder: Arc<dyn Encoder>, options: IndexOptions) -> Result<Self> {
        refuse_foreign(folder)?;
        let mut options = options.model(encoder.model_id().as_str());
        options.dim = encoder.dim();
        options.payload = Catalog::new(Source::Documents, None).to_payload()?;
        Index::create(MmapDirectory::create(folder)?, options)?;
        Self::open(Location { root: None, index: folder.into(), asked: None }, encoder)
    }

    /// The newest commit and its catalogue, of which only what is new is read.
    pub(crate) fn newest(&self) -> Result<(Searcher, Arc<Catalog>)> {
        let read = || self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (searcher, (version, known)) = (self.index.searcher()?, read().clone());
        if version == searcher.version() {
            return Ok((searcher, known));
        }
        let (searcher, catalog) = newest(&self.index, searcher, Some(&known))?;
        // Another index may lie there by now, whose rows are not comparable.
        check_model(&searcher, &*self.encoder, self.path())?;
        if (catalog.source, &catalog.root) != (known.source, &known.root) {
            return Err(Error::Replaced { index: self.path().into() });
        }
        let catalog = Arc::new(catalog);
        *read() = (searcher.version(), catalog.clone());
        Ok((searcher, catalog))
    }

    /// Whether these keywords were written by way of this index, and their files are as they were then.
    pub(crate) fn is_own_record(&self, record: Option<&KeywordsRecord>) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(record), Some((ours, stamps))) = (record, written) else { return false };
        *record == ours && keywords::stamps(self.path(), record).is_some_and(|now| now == stamps)
    }

    pub(crate) fn set_own_record(&self, record: KeywordsRecord) {
        let stamps = keywords::stamps(self.path(), &record);
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = stamps.map(|stamps| (record, stamps));
    }

    /// Where its documents come from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Takes an index that holds no document out of the file system again: for callers whose first sync found nothing
    /// to index.
    ///
    /// # Errors
    /// As [`TextIndex::remove`].
    pub fn remove_if_empty(self) -> Result<()> {
        if !self.newest()?.1.files.is_empty() {
            return Ok(());
        }
        let _writer = self.index.writer()?;
        // Another process may have filled it before the lock was ours.
        if self.newest()?.1.files.is_empty() { own_files::remove(self.path()) } else { Ok(()) }
    }

    /// Takes the index out of the file system: its own files, and the folder if nothing else is in it. Readers that are open
    /// keep what they read.
    ///
    /// # Errors
    /// When another process is writing, or a file cannot be deleted.
    pub fn remove(self) -> Result<()> {
        let _writer = self.index.writer()?;
        own_files::remove(self.path())
    }

    /// A reader of the newest commit, which it keeps whatever is committed later.
    ///
    /// # Errors
    /// When the index is damaged.
    pub fn reader(&self) -> Result<Reader> {
        Reader::open(self)
    }

    /// What encodes documents and queries.
    pub fn encoder(&self) -> &Arc<dyn Encoder> {
        &self.encoder
    }

    /// The folder whose documents are indexed; the index's own where they were added one by one.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the index.
    pub fn path(&self) -> &Path {
        self.index.directory().path()
    }

    /// The engine's index underneath.
    pub fn engine(&self) -> &Index {
        &self.index
    }
}

/// That an index was made by the model at hand.
fn check_model(searcher: &Searcher, encoder: &dyn Encoder, index: &Path) -> Result<()> {
    let found = searcher.info().model.unwrap_or_default();
    let (index, expected) = (index.to_path_buf(), encoder.model_id().as_str().to_owned());
    if !encoder.model_id().same_model(&found) {
        return Err(Error::OtherModel { index, expected, found });
    }
    if !encoder.model_id().same_rows(&found) {
        return Err(Error::OtherOptions { index, expected, found });
    }
    Ok(())
}

/// The catalogue of `searcher`'s commit; of a newer one where that has taken away what this one names.
fn newest(index: &Index, mut searcher: Searcher, known: Option<&Catalog>) -> Result<(Searcher, Catalog)> {
    loop {
        match Catalog::read(searcher.payload(), index.directory(), known) {
            Ok(Some(catalog)) => return Ok((searcher, catalog)),
            Ok(None) => return Err(Error::NoText { index: index.directory().path().into() }),
            Err(error) if index.version()? == searcher.version() => return Err(error),
            Err(_) => searcher = index.searcher()?,
        }
    }
}

/// The folder that an index belongs to: the recorded one, or else the one that holds its `.latewood`.
fn root(location: &Location, catalog: &Catalog) -> Result<PathBuf> {
    let other = |root: &Path, folder: &Path| Error::OtherFolder {
        index: location.index.clone(),
        root: root.into(),
        folder: folder.into(),
    };
    if let Some(recorded) = &catalog.root {
        let recorded = PathBuf::from(recorded);
        return match &location.root {
            Some(root) if *root != recorded => Err(other(&recorded, root)),
            _ => Ok(recorded),
        };
    }
    let index = fs::canonicalize(&location.index).map_err(|e| Error::io("open", &location.index, e))?;
    match index.parent() {
        Some(parent) if index.file_name().is_some_and(|name| name == INDEX_DIR) => Ok(parent.to_path_buf()),
        _ => Err(other(Path::new("the folder it was moved from"), &index)),
    }
}
