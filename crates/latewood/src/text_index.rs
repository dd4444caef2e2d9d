//! A folder of documents and its index.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use latewood_encoder::Encoder;
use latewood_engine::{self as engine, Index, IndexOptions, MmapDirectory};

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::location::{INDEX_DIR, Location, relative};
use crate::reader::Reader;

/// The index of a folder of documents.
#[derive(Clone)]
pub struct TextIndex {
    pub(crate) index: Index,
    pub(crate) encoder: Arc<dyn Encoder>,
    pub(crate) root: PathBuf,
    /// The part of the root that was asked about: `/`-separated, with a `/` at the end; empty for all of it.
    pub(crate) within: String,
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
        let found = searcher.info().model.unwrap_or_default();
        if found != encoder.model_id().as_str() {
            let expected = encoder.model_id().as_str().into();
            return Err(Error::OtherModel { index: location.index, expected, found });
        }
        let catalog = Catalog::from_payload(searcher.payload(), &location.index)?;
        let catalog = catalog.ok_or_else(|| Error::NoText { index: location.index.clone() })?;
        let root = match (&location.root, &catalog.root) {
            (Some(root), _) => root.clone(),
            (None, Some(recorded)) => recorded.into(),
            (None, None) => parent(&location.index)?,
        };
        let within = match &location.asked {
            None => String::new(),
            Some(asked) => relative(&root, asked).ok_or_else(|| Error::OtherFolder {
                index: location.index.clone(),
                root: root.clone(),
                folder: asked.clone(),
            })?,
        };
        Ok(Self { index, encoder, root, within })
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
        let inside = location.index == root.join(INDEX_DIR);
        let options = IndexOptions::new(encoder.dim()).model(encoder.model_id().as_str());
        let index = Index::create(MmapDirectory::create(&location.index)?, options)?;
        if inside {
            // The index is derived from the documents: version control shall leave it alone.
            let ignore = location.index.join(".gitignore");
            fs::write(&ignore, "*\n").map_err(|e| Error::io("write", ignore, e))?;
        }
        let recorded = (!inside).then(|| root.to_string_lossy().into_owned());
        index.writer()?.commit(Some(&Catalog::new(recorded).to_payload()?), &())?;
        Ok(Self { index, encoder, within: String::new(), root })
    }

    /// A reader of the newest commit, which it keeps whatever is committed later.
    ///
    /// # Errors
    /// When the index is damaged.
    pub fn reader(&self) -> Result<Reader> {
        Reader::open(self)
    }

    /// The folder whose documents are indexed.
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

/// The folder that an index inside of it belongs to.
fn parent(index: &Path) -> Result<PathBuf> {
    let absolute = fs::canonicalize(index).map_err(|e| Error::io("open", index, e))?;
    Ok(absolute.parent().unwrap_or(Path::new("/")).to_path_buf())
}
