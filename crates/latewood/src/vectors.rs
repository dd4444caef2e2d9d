//! Token embeddings as arrays ([`latewood_arrays`]), and a judged collection encoded as such a folder, so that engines can
//! be compared on the same vectors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use latewood_encoder::{Encoder, POOLED_TOKEN};

pub use latewood_arrays::{BuildOptions, Built, Document, Documents, build, built, export, read_queries};
use latewood_arrays::{DOC_LENS, NpyWriter, QUERIES, QUERY_LENS, TOKEN_IDS, VECTORS, write_lens};

use crate::error::{Error, Result};
use crate::eval::Collection;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct EncodedCollection {
    /// Documents with text; the others are left out.
    pub documents: usize,
    /// Their rows.
    pub rows: usize,
    /// Queries.
    pub queries: usize,
    /// Values a row.
    pub dim: usize,
}

/// Encodes `collection` into `dir`: the arrays of [`latewood_arrays`], the names of documents and queries (`docids.txt`,
/// `qids.txt`, a line each) and the judgements (`qrels.json`). `progress` hears of documents done.
///
/// # Errors
/// When the encoder fails or a file cannot be written.
pub fn encode(
    collection: &Collection,
    encoder: &dyn Encoder,
    dir: &Path,
    progress: impl Fn(usize, usize),
) -> Result<EncodedCollection> {
    fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
    let (documents, rows) = encode_documents(collection, encoder, dir, progress)?;
    encode_queries(collection, encoder, dir)?;
    let judgements: BTreeMap<_, _> = collection
        .questions
        .queries
        .iter()
        .map(|query| (&query.id, collection.questions.judgements.of(&query.id).collect::<BTreeMap<_, _>>()))
        .collect();
    let path = dir.join("qrels.json");
    let json = serde_json::to_vec(&judgements).map_err(|e| Error::io("write", &path, e.into()))?;
    fs::write(&path, json).map_err(|e| Error::io("write", &path, e))?;
    Ok(EncodedCollection { documents, rows, queries: collection.questions.queries.len(), dim: encoder.dim() })
}

fn encode_documents(
    collection: &Collection,
    encoder: &dyn Encoder,
    dir: &Path,
    progress: impl Fn(usize, usize),
) -> Result<(usize, usize)> {
    let mut vectors = NpyWriter::<f16>::create(&dir.join(VECTORS), &[encoder.dim()])?;
    let mut token_ids = NpyWriter::<i64>::create(&dir.join(TOKEN_IDS), &[])?;
    let (mut lens, mut names) = (Vec::new(), String::new());
    let mut halves = Vec::new();
    let at_once = encoder.documents_at_once().max(1);
    for (batch, documents) in collection.documents.chunks(at_once).enumerate() {
        progress(batch * at_once, collection.documents.len());
        let with_text = documents.iter().map(|d| (d, d.full_text())).filter(|(_, text)| !text.is_empty());
        let (documents, texts): (Vec<_>, Vec<_>) = with_text.unzip();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for (document, encoded) in documents.into_iter().zip(encoder.encode_documents(&texts)?) {
            let values = encoded.embeddings.view().values();
            halves.resize(values.len(), f16::ZERO);
            halves.convert_from_f32_slice(values);
            vectors.write(&halves)?;
            token_ids.write(&encoded.token_ids.iter().map(|&id| token_id(id)).collect::<Vec<_>>())?;
            lens.push(encoded.token_ids.len());
            names.extend([&document.id, "\n"]);
        }
    }
    vectors.finish()?;
    token_ids.finish()?;
    write_lens(&dir.join(DOC_LENS), &lens)?;
    let path = dir.join("docids.txt");
    fs::write(&path, names).map_err(|e| Error::io("write", &path, e))?;
    Ok((lens.len(), lens.iter().sum()))
}

fn encode_queries(collection: &Collection, encoder: &dyn Encoder, dir: &Path) -> Result<()> {
    let texts: Vec<&str> = collection.questions.queries.iter().map(|query| query.text.as_str()).collect();
    let encoded = encoder.encode_queries(&texts)?;
    let lens: Vec<usize> = encoded.iter().map(|query| query.embeddings.len()).collect();
    let longest = lens.iter().copied().max().unwrap_or(0);
    let mut queries = NpyWriter::<f32>::create(&dir.join(QUERIES), &[longest, encoder.dim()])?;
    for query in &encoded {
        let mut values = query.embeddings.values().to_vec();
        values.resize(longest * encoder.dim(), 0.0);
        queries.write(&values)?;
    }
    queries.finish()?;
    write_lens(&dir.join(QUERY_LENS), &lens)?;
    let names: String = collection.questions.queries.iter().map(|query| format!("{}\n", query.id)).collect();
    let path = dir.join("qids.txt");
    fs::write(&path, names).map_err(|e| Error::io("write", &path, e))
}

fn token_id(id: u32) -> i64 {
    if id == POOLED_TOKEN { -1 } else { i64::from(id) }
}
