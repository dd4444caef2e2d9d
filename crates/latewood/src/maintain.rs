//! Looking after an index, of text or of vectors alone: checking it, making it small.

use std::path::Path;

use latewood_engine::{Commit, Index, MmapDirectory, Progress};

use crate::catalog::Catalog;
use crate::device::{Comparison, Opened, compare};
use crate::error::{Error, Result};
use crate::keywords::Keywords;
use crate::texts::Texts;

/// Checks everything that the index's newest commit names: checksums, cross-references, each passage's text. Returns what
/// is wrong; nothing in a sound index.
///
/// # Errors
/// When there is no index at all.
pub fn verify(index: &Path, progress: &dyn Progress) -> Result<Vec<Error>> {
    let index = Index::open(MmapDirectory::open(index)?)?;
    loop {
        let version = index.version();
        let wrong = index.verify(progress).into_iter().map(Error::from);
        let texts = match index.searcher() {
            Ok(searcher) => verify_texts(&index, searcher.payload()),
            // The engine has said so.
            Err(_) => Vec::new(),
        };
        let wrong: Vec<Error> = wrong.chain(texts).collect();
        // A commit in between may have deleted what its predecessor names: then the newer one is looked at.
        if wrong.is_empty() || version.is_err() || index.version().ok() == version.ok() {
            return Ok(wrong);
        }
    }
}

/// Compares the answers of a device with the processor's, over this index.
///
/// # Errors
/// As [`crate::device::compare`].
pub fn verify_device(index: &Path, device: &Opened) -> Result<Comparison> {
    compare(&Index::open(MmapDirectory::open(index)?)?, device)
}

fn verify_texts(index: &Index, payload: &[u8]) -> Vec<Error> {
    if latewood_arrays::is_unfinished(payload) {
        return Vec::new();
    }
    let directory = index.directory();
    let catalog = match Catalog::read(payload, directory, None) {
        Ok(Some(catalog)) => catalog,
        // Vectors alone.
        Ok(None) => return Vec::new(),
        Err(e) => return vec![e],
    };
    let texts = match Texts::open(directory, &catalog, |_| true) {
        Ok(texts) => texts,
        Err(e) => return vec![e],
    };
    let wrong = catalog.files.iter().filter_map(|file| texts.check(file).err());
    let keywords = catalog.keywords.iter().flat_map(|record| match Keywords::open(directory.path(), record) {
        Ok(keywords) => keywords.verify(),
        Err(error) => vec![error],
    });
    wrong.chain(keywords).collect()
}

/// Rewrites the index without what is deleted, in as few shards as there can be.
///
/// # Errors
/// As [`latewood_engine::IndexWriter::compact`].
pub fn compact(index: &Path, progress: &dyn Progress) -> Result<Commit> {
    Ok(Index::open(MmapDirectory::open(index)?)?.writer()?.compact(progress)?)
}
