//! Documents that wait for a commit: their rows in a temporary file, in f16, so that memory stays small.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::directory::{Directory, FileWriter};
use crate::embeddings::TokenEmbeddingsRef;
use crate::error::{Error, Result};
use crate::ids::DocId;

pub(super) const FILE: &str = "spool.tmp";

/// Rows of waiting documents.
pub(super) struct Spool {
    directory: Arc<dyn Directory>,
    file: Option<Box<dyn FileWriter>>,
    dim: usize,
    bytes: u64,
    docs: BTreeMap<DocId, Run>,
    buffer: Vec<f16>,
}

/// Where a document lies in the file: its rows and, where they are known, their tokens' ids as u32.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u64,
    rows: u32,
    has_ids: bool,
}

impl Spool {
    pub(super) fn new(directory: Arc<dyn Directory>, dim: usize) -> Self {
        Self { directory, file: None, dim, bytes: 0, docs: BTreeMap::new(), buffer: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.docs.is_empty()
    }

    /// Rows of the documents that wait; those of replaced ones do not count.
    pub(super) fn live_rows(&self) -> u64 {
        self.docs.values().map(|run| u64::from(run.rows)).sum()
    }

    /// Adds a document, in place of one of the same id.
    pub(super) fn push(&mut self, doc: DocId, embeddings: TokenEmbeddingsRef<'_>) -> Result<()> {
        let rows = u32::try_from(embeddings.len())
            .map_err(|_| Error::TooManyRows { rows: embeddings.len(), limit: u32::MAX as usize })?;
        let (values, token_ids) = (embeddings.values(), embeddings.token_ids());
        self.buffer.resize(values.len(), f16::ZERO);
        self.buffer.convert_from_f32_slice(values);
        let run = Run { start: self.bytes, rows, has_ids: token_ids.is_some() };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.directory.create(FILE)?),
        };
        for bytes in [bytemuck::cast_slice(&self.buffer), bytemuck::cast_slice(token_ids.unwrap_or_default())] {
            file.write_all(bytes).map_err(|e| Error::io("write", self.directory.path().join(FILE), e))?;
            self.bytes += bytes.len() as u64;
        }
        self.docs.insert(doc, run);
        Ok(())
    }

    /// Takes a document out again; whether it was there.
    pub(super) fn remove(&mut self, doc: DocId) -> bool {
        self.docs.remove(&doc).is_some()
    }

    /// The waiting documents, for reading.
    pub(super) fn read(&mut self) -> Result<SpoolReader<'_>> {
        let path = self.directory.path().join(FILE);
        if let Some(file) = &mut self.file {
            file.flush().map_err(|e| Error::io("write", &path, e))?;
        }
        Ok(SpoolReader { directory: &*self.directory, path, dim: self.dim, docs: Some(&self.docs) })
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.docs.clear();
        self.bytes = 0;
        if self.file.take().is_some() && self.directory.exists(FILE)? {
            self.directory.delete(FILE)?;
        }
        Ok(())
    }
}

/// The waiting documents in ascending order of their ids.
pub(super) struct SpoolReader<'a> {
    directory: &'a dyn Directory,
    path: PathBuf,
    dim: usize,
    docs: Option<&'a BTreeMap<DocId, Run>>,
}

impl<'a> SpoolReader<'a> {
    /// Of no documents.
    pub(super) fn empty(directory: &'a dyn Directory) -> Self {
        Self { directory, path: PathBuf::new(), dim: 0, docs: None }
    }

    fn docs(&self) -> impl Iterator<Item = (&DocId, &Run)> {
        self.docs.into_iter().flatten()
    }

    /// Rows of all documents.
    pub(super) fn rows(&self) -> u64 {
        self.docs().map(|(_, run)| u64::from(run.rows)).sum()
    }

    /// Calls `each` with each document, its rows `[n, d]`, and their token ids if they are known. The file is read and not
    /// mapped: it is as large as all that waits.
    pub(super) fn for_each(&self, mut each: impl FnMut(DocId, &[f16], Option<&[u32]>) -> Result<()>) -> Result<()> {
        if self.docs().next().is_none() {
            return Ok(());
        }
        let mut file = self.directory.reader(FILE)?;
        let (mut position, mut rows, mut ids) = (0, Vec::new(), Vec::new());
        for (&doc, run) in self.docs() {
            rows.resize(run.rows as usize * self.dim, f16::ZERO);
            ids.resize(if run.has_ids { run.rows as usize } else { 0 }, 0u32);
            let mut read = || {
                // Mostly a document lies behind the one before: then what has been read ahead is kept.
                if position != run.start {
                    file.seek(SeekFrom::Start(run.start))?;
                }
                file.read_exact(bytemuck::cast_slice_mut(&mut rows))?;
                file.read_exact(bytemuck::cast_slice_mut(&mut ids))
            };
            read().map_err(|e| Error::io("read", &self.path, e))?;
            position = run.start + (size_of_val(&rows[..]) + size_of_val(&ids[..])) as u64;
            each(doc, &rows, run.has_ids.then_some(&ids[..]))?;
        }
        Ok(())
    }
}

/// Appends `rows` as f32.
pub(super) fn append_f32(rows: &[f16], out: &mut Vec<f32>) {
    let start = out.len();
    out.resize(start + rows.len(), 0.0);
    rows.convert_to_f32_slice(&mut out[start..]);
}
