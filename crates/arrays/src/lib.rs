//! Token embeddings from elsewhere: a folder of .npy arrays.
//!
//! | file | type and shape | |
//! |---|---|---|
//! | `vectors.npy` | f16 `[n, d]` | unit rows, documents back to back |
//! | `doclens.npy` | i32 `[docs]` | rows of each document; their sum is `n` |
//! | `token_ids.npy` | i64 `[n]` | optional: the vocabulary id of each row, negative where it has none |
//! | `queries.npy` | f32 `[queries, longest, d]` | padded with zeros; a row's norm is its weight |
//! | `qlens.npy` | i32 `[queries]` | rows of each query |
//!
//! All are little-endian and in C order, as `numpy.save` writes them. Documents and queries are known by their
//! position. Documents are read one after the other: memory does not grow with the collection.

mod build;
mod error;
mod export;
mod npy;
mod npy_header;

use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use latewood_engine::QueryEmbeddings;

pub use build::{BuildOptions, Built, build, built, is_unfinished};
pub use error::{Error, Result};
pub use export::export;
use npy::NpyReader;
pub use npy::{Element, NpyWriter, write_lens};

/// The file of the documents' rows.
pub const VECTORS: &str = "vectors.npy";
/// The file of the documents' lengths.
pub const DOC_LENS: &str = "doclens.npy";
/// The file of the rows' vocabulary ids.
pub const TOKEN_IDS: &str = "token_ids.npy";
/// The file of the queries' rows.
pub const QUERIES: &str = "queries.npy";
/// The file of the queries' lengths.
pub const QUERY_LENS: &str = "qlens.npy";

/// The token id of a row that is no token's.
pub const NO_TOKEN: u32 = u32::MAX;

/// The documents of a folder, read in order.
#[derive(Debug)]
pub struct Documents {
    vectors: NpyReader<f16>,
    token_ids: Option<NpyReader<i64>>,
    lens: Vec<usize>,
    dim: usize,
    next: usize,
    halves: Vec<f16>,
}

/// A document of a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its place among the documents, from 0.
    pub position: u64,
    /// `[n, d]` row-major.
    pub values: Vec<f32>,
    /// `[n]`: the rows' vocabulary ids, [`NO_TOKEN`] where there is none; `None` where they are not asked for or not
    /// there ([`Documents::with_token_ids`]).
    pub token_ids: Option<Vec<u32>>,
}

impl Documents {
    /// Opens the arrays of `dir` and checks that their shapes agree.
    ///
    /// # Errors
    /// When one is missing, of another type, or disagrees with the others; the error names it.
    pub fn open(dir: &Path) -> Result<Self> {
        let vectors = NpyReader::<f16>::open(&dir.join(VECTORS))?;
        let [rows, dim] = vectors.shape()?;
        let mut doc_lens = NpyReader::<i32>::open(&dir.join(DOC_LENS))?;
        let lens = lens(&mut doc_lens, i32::MAX as usize)?;
        let sum: usize = lens.iter().sum();
        if sum != rows {
            return Err(doc_lens.bad(format!("its lengths sum to {sum}, {VECTORS} has {rows} rows")));
        }
        Ok(Self { vectors, token_ids: None, lens, dim, next: 0, halves: Vec::new() })
    }

    /// With the rows' vocabulary ids, if `dir` has them; to be asked for before the first document is read.
    ///
    /// # Errors
    /// As [`Documents::open`].
    pub fn with_token_ids(self, dir: &Path) -> Result<Self> {
        Ok(Self { token_ids: open_token_ids(&dir.join(TOKEN_IDS), self.rows())?, ..self })
    }

    /// Number of documents.
    pub fn count(&self) -> usize {
        self.lens.len()
    }

    /// Number of rows of all documents.
    pub fn rows(&self) -> usize {
        self.lens.iter().sum()
    }

    /// Values a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Passes over the next `count` documents.
    ///
    /// # Errors
    /// When the file does not read.
    pub fn skip(&mut self, count: usize) -> Result<()> {
        let end = self.next.saturating_add(count).min(self.lens.len());
        let rows: usize = self.lens[self.next..end].iter().sum();
        self.next = end;
        self.token_ids.iter_mut().try_for_each(|ids| ids.skip(rows))?;
        self.vectors.skip(rows * self.dim)
    }

    /// Rows of the next document, if there is one.
    fn next_len(&self) -> Option<usize> {
        self.lens.get(self.next).copied()
    }

    /// The next document.
    ///
    /// # Errors
    /// When the file does not read.
    pub fn next_document(&mut self) -> Result<Option<Document>> {
        let Some(len) = self.next_len() else { return Ok(None) };
        self.halves.resize(len * self.dim, f16::ZERO);
        self.vectors.read(&mut self.halves)?;
        let mut values = vec![0.0; len * self.dim];
        self.halves.convert_to_f32_slice(&mut values);
        let token_ids = self.token_ids.as_mut().map(|ids| read_token_ids(ids, len)).transpose()?;
        let position = self.next as u64;
        self.next += 1;
        Ok(Some(Document { position, values, token_ids }))
    }
}

/// The file of vocabulary ids, if there is one: as many as `rows`.
fn open_token_ids(path: &Path, rows: usize) -> Result<Option<NpyReader<i64>>> {
    if !path.try_exists().map_err(|e| Error::io("open", path, e))? {
        return Ok(None);
    }
    let ids = NpyReader::<i64>::open(path)?;
    match ids.shape()? {
        [count] if count == rows => Ok(Some(ids)),
        [count] => Err(ids.bad(format!("has {count} ids, {VECTORS} has {rows} rows"))),
    }
}

/// The next `count` ids.
fn read_token_ids(ids: &mut NpyReader<i64>, count: usize) -> Result<Vec<u32>> {
    let read = ids.read_vec(count)?;
    let token = |&id: &i64| if id < 0 { Ok(NO_TOKEN) } else { u32::try_from(id).map_err(|_| id) };
    let token_ids: Result<Vec<u32>, i64> = read.iter().map(token).collect();
    token_ids.map_err(|id| ids.bad(format!("id {id} is over {}", u32::MAX)))
}

/// The queries of a folder.
///
/// # Errors
/// As [`Documents::open`], and when a query is none ([`QueryEmbeddings::new`]).
pub fn read_queries(dir: &Path) -> Result<Vec<QueryEmbeddings>> {
    let mut array = NpyReader::<f32>::open(&dir.join(QUERIES))?;
    let [count, longest, dim] = array.shape()?;
    let mut query_lens = NpyReader::<i32>::open(&dir.join(QUERY_LENS))?;
    let lens = lens(&mut query_lens, longest)?;
    if lens.len() != count {
        return Err(query_lens.bad(format!("has {} lengths, {QUERIES} has {count} queries", lens.len())));
    }
    let mut queries = Vec::with_capacity(count);
    for (at, len) in lens.into_iter().enumerate() {
        let mut values = array.read_vec(longest * dim)?;
        values.truncate(len * dim);
        queries.push(QueryEmbeddings::new(values, dim).map_err(|e| array.bad(format!("query {at}: {e}")))?);
    }
    Ok(queries)
}

/// Lengths of 1 to `max`.
fn lens(array: &mut NpyReader<i32>, max: usize) -> Result<Vec<usize>> {
    let [count] = array.shape()?;
    let lens = array.read_vec(count)?;
    match lens.iter().position(|&n| n < 1 || n as usize > max) {
        None => Ok(lens.into_iter().map(|n| n as usize).collect()),
        Some(at) => Err(array.bad(format!("length {at} is {}: it must be 1 to {max}", lens[at]))),
    }
}
