//! Looking after an index, of text or of vectors alone: checking it, making it small, getting its vectors out.

use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use latewood_engine::{Commit, Index, MmapDirectory, Progress};

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::texts::Texts;
use crate::vectors::{DOC_LENS, NpyWriter, VECTORS, is_unfinished, write_lens};

/// Checks everything that the index's newest commit names: checksums, cross-references, each passage's text. Returns what
/// is wrong; nothing in a sound index.
///
/// # Errors
/// When there is no index at all.
pub fn verify(index: &Path, progress: &dyn Progress) -> Result<Vec<Error>> {
    let index = Index::open(MmapDirectory::open(index)?)?;
    let wrong: Vec<Error> = index.verify(progress).into_iter().map(Error::from).collect();
    let texts = match index.searcher() {
        Ok(searcher) => verify_texts(&index, searcher.payload()),
        // The engine has said so.
        Err(_) => Vec::new(),
    };
    Ok(wrong.into_iter().chain(texts).collect())
}

fn verify_texts(index: &Index, payload: &[u8]) -> Vec<Error> {
    if is_unfinished(payload) {
        return Vec::new();
    }
    let directory = index.directory();
    let catalog = match Catalog::from_payload(payload, directory.path()) {
        Ok(Some(catalog)) => catalog,
        // Vectors alone.
        Ok(None) => return Vec::new(),
        Err(e) => return vec![e],
    };
    let texts = match Texts::open(directory, &catalog) {
        Ok(texts) => texts,
        Err(e) => return vec![e],
    };
    let passages = catalog.files.iter().flat_map(|file| (0..file.passages.len()).map(move |passage| (file, passage)));
    passages.filter_map(|(file, passage)| texts.read(file, passage).err()).collect()
}

/// Rewrites the index without what is deleted, in as few shards as there can be.
///
/// # Errors
/// As [`latewood_engine::IndexWriter::compact`].
pub fn compact(index: &Path, progress: &dyn Progress) -> Result<Commit> {
    Ok(Index::open(MmapDirectory::open(index)?)?.writer()?.compact(progress)?)
}

/// Writes the vectors of all documents to `dir`, as unit rows in the arrays that [`crate::vectors`] reads, and their ids,
/// ascending, to `docids.txt`, a line each. Returns how many documents and rows there are. Vectors are what the index
/// keeps of what it was given.
///
/// # Errors
/// When the index is damaged or a file cannot be written.
pub fn export(index: &Path, dir: &Path, progress: impl Fn(usize, usize)) -> Result<(usize, usize)> {
    let searcher = Index::open(MmapDirectory::open(index)?)?.searcher()?;
    let dim = searcher.info().dim;
    std::fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
    let mut vectors = NpyWriter::<f16>::create(&dir.join(VECTORS), &[dim])?;
    let (documents, mut lens, mut halves) = (searcher.documents(), Vec::new(), Vec::new());
    for (done, &id) in documents.iter().enumerate() {
        if done % 1024 == 0 {
            progress(done, documents.len());
        }
        let mut rows = searcher.embeddings(id)?.unwrap_or_default();
        rows.chunks_exact_mut(dim).for_each(normalise);
        halves.resize(rows.len(), f16::ZERO);
        halves.convert_from_f32_slice(&rows);
        vectors.write(&halves)?;
        lens.push(rows.len() / dim);
    }
    vectors.finish()?;
    write_lens(&dir.join(DOC_LENS), &lens)?;
    let path = dir.join("docids.txt");
    let ids: String = documents.iter().map(|id| format!("{id}\n")).collect();
    std::fs::write(&path, ids).map_err(|e| Error::io("write", &path, e))?;
    Ok((documents.len(), lens.iter().sum()))
}

fn normalise(row: &mut [f32]) {
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|x| *x /= norm);
    }
}
