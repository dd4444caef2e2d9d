//! The vectors of an index as arrays.

use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use latewood_engine::{Index, MmapDirectory};

use crate::error::{Error, Result};
use crate::{DOC_LENS, NpyWriter, VECTORS, write_lens};

/// Writes the vectors of all documents to `dir`, as unit rows in the arrays that [`crate::Documents`] reads, and their ids,
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
