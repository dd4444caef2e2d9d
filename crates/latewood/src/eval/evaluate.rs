//! A collection through the whole product: encode, index, search, and the exact oracle beside it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use latewood_encoder::Encoder;
use latewood_engine::exact::ExactSearch;
use latewood_engine::{
    DocId, Hit, Index, IndexInfo, IndexOptions, MmapDirectory, Progress, QueryEmbeddings, SearchParams, Stage,
};
use serde::Serialize;

use super::beir::{Collection, Query};
use super::metrics::{Metrics, overlap, score};
use super::run::Ranking;
use crate::device::Opened;
use crate::error::{Error, Result};

/// Documents encoded at a time.
const BATCH: usize = 256;
/// Hits kept of each query: what the deepest metric looks at.
const DEPTH: usize = 100;

/// How to evaluate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EvalOptions {
    /// Bits a dimension of the index.
    pub bits: u32,
    /// The engine's knobs; its `k` is set from here.
    pub params: SearchParams,
    /// Whether to compute exact MaxSim too.
    pub exact: bool,
    /// Where to leave the index; a temporary folder if none.
    pub index: Option<PathBuf>,
    /// Where searches run; the processor if none.
    pub device: Option<Opened>,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self { bits: 4, params: SearchParams::default(), exact: true, index: None, device: None }
    }
}

/// What an evaluation is doing.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum EvalEvent {
    /// Documents encoded.
    Encoded {
        /// So far.
        done: usize,
        /// In all.
        total: usize,
    },
    /// The engine is building.
    Building {
        /// The stage.
        stage: Stage,
        /// Steps done.
        done: u64,
        /// Steps in all.
        total: u64,
    },
    /// Queries searched.
    Searched {
        /// So far.
        done: usize,
        /// In all.
        total: usize,
    },
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct EvalReport {
    /// Metrics of the index.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Metrics of exact MaxSim on the same embeddings.
    pub exact: Option<Metrics>,
    /// Share of the exact first 10 that the index finds among its first 10.
    pub recall_10_of_exact: Option<f64>,
    /// The same of 100.
    pub recall_100_of_exact: Option<f64>,
    /// Documents.
    pub documents: usize,
    /// Documents without text: not indexed.
    pub empty_documents: usize,
    /// Documents that were longer than the model takes: their end is not indexed.
    pub truncated_documents: usize,
    /// Queries.
    pub queries: usize,
    /// Queries that were longer than the model takes.
    pub truncated_queries: usize,
    /// Token vectors.
    pub tokens: u64,
    /// Seconds to encode the documents.
    pub encode_s: f64,
    /// Word pieces read a second.
    pub encode_tokens_per_s: f64,
    /// Seconds to build the index from the vectors.
    pub build_s: f64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes of the index a token vector.
    pub bytes_per_token: f64,
    /// Text in, hits out, one query at a time.
    pub latency_ms: Percentiles,
    /// The part of it that encodes the query.
    pub encode_query_ms: Percentiles,
    /// The part of it in the engine.
    pub search_ms: Percentiles,
    /// The index's first hits of each query.
    #[serde(skip)]
    pub run: HashMap<String, Ranking>,
}

/// Of many durations, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    /// Half are faster.
    pub p50: f64,
    /// 95 of 100 are faster.
    pub p95: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
}

impl Percentiles {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |p: usize| {
            all.get((all.len() * p / 100).min(all.len().saturating_sub(1))).map_or(0.0, |d| d.as_secs_f64() * 1e3)
        };
        Self { p50: at(50), p95: at(95), p99: at(99) }
    }
}

/// Runs the collection's judged queries.
///
/// # Errors
/// When encoding or the engine fails.
pub fn evaluate(
    collection: &Collection,
    encoder: &dyn Encoder,
    options: &EvalOptions,
    monitor: &dyn Fn(EvalEvent),
) -> Result<EvalReport> {
    let temporary;
    let dir = match &options.index {
        Some(dir) => dir.clone(),
        None => {
            temporary = tempfile::tempdir().map_err(|e| Error::io("make", "a temporary folder", e))?;
            temporary.path().to_path_buf()
        }
    };
    let index_options = IndexOptions::new(encoder.dim()).bits(options.bits).model(encoder.model_id().as_str());
    let index = Index::create(MmapDirectory::create(dir)?, index_options)?;
    let index = match &options.device {
        Some(device) => index.with_backend(device.backend()),
        None => index,
    };
    let (queries, truncated_queries) = encode_queries(collection, encoder)?;
    let mut exact = options.exact.then(|| ExactSearch::new(&queries, DEPTH)).transpose()?;
    let built = build(collection, encoder, &index, exact.as_mut(), monitor)?;
    let searched = search(collection, encoder, &index, &options.params, monitor)?;
    let exact = exact.map(|search| rankings(collection, search.finish()));
    let info: IndexInfo = index.searcher()?.info();
    Ok(EvalReport {
        metrics: score(&collection.judgements, &searched.run),
        exact: exact.as_ref().map(|run| score(&collection.judgements, run)),
        recall_10_of_exact: exact.as_ref().map(|run| overlap(&searched.run, run, 10)),
        recall_100_of_exact: exact.as_ref().map(|run| overlap(&searched.run, run, 100)),
        documents: collection.documents.len(),
        empty_documents: built.empty,
        truncated_documents: built.truncated,
        queries: collection.queries.len(),
        truncated_queries,
        tokens: built.rows,
        encode_s: built.encode.as_secs_f64(),
        encode_tokens_per_s: built.pieces as f64 / built.encode.as_secs_f64().max(1e-9),
        build_s: built.build.as_secs_f64(),
        index_bytes: info.bytes(),
        bytes_per_token: info.bytes() as f64 / built.rows.max(1) as f64,
        latency_ms: Percentiles::of(searched.encode.iter().zip(&searched.search).map(|(a, b)| *a + *b).collect()),
        encode_query_ms: Percentiles::of(searched.encode),
        search_ms: Percentiles::of(searched.search),
        run: searched.run,
    })
}

fn encode_queries(collection: &Collection, encoder: &dyn Encoder) -> Result<(Vec<QueryEmbeddings>, usize)> {
    let texts: Vec<&str> = collection.queries.iter().map(|query| query.text.as_str()).collect();
    let encoded = encoder.encode_queries(&texts)?;
    let truncated = encoded.iter().filter(|query| query.truncated).count();
    Ok((encoded.into_iter().map(|query| query.embeddings).collect(), truncated))
}

#[derive(Default)]
struct Built {
    empty: usize,
    truncated: usize,
    rows: u64,
    pieces: u64,
    encode: Duration,
    build: Duration,
}

/// Encodes and indexes the documents, their position being their id; shows them to the oracle on the way.
fn build(
    collection: &Collection,
    encoder: &dyn Encoder,
    index: &Index,
    mut exact: Option<&mut ExactSearch>,
    monitor: &dyn Fn(EvalEvent),
) -> Result<Built> {
    let mut writer = index.writer()?;
    let mut built = Built::default();
    let total = collection.documents.len();
    let mut texts: Vec<(DocId, String)> =
        collection.documents.iter().zip(0..).map(|(doc, at)| (DocId(at), doc.full_text())).collect();
    texts.retain(|(_, text)| !text.is_empty());
    built.empty = total - texts.len();
    for (done, batch) in texts.chunks(BATCH).enumerate() {
        monitor(EvalEvent::Encoded { done: done * BATCH, total });
        let start = Instant::now();
        let encoded = encoder.encode_documents(&batch.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>())?;
        built.encode += start.elapsed();
        let start = Instant::now();
        for ((doc, _), encoded) in batch.iter().zip(&encoded) {
            writer.add(*doc, encoded.embeddings.view().with_token_ids(&encoded.token_ids)?)?;
        }
        built.build += start.elapsed();
        built.truncated += encoded.iter().filter(|e| e.truncated).count();
        built.rows += encoded.iter().map(|e| e.embeddings.view().len() as u64).sum::<u64>();
        built.pieces += encoded.iter().map(|e| e.tokens.min(encoder.max_document_tokens()) as u64).sum::<u64>();
        if let Some(exact) = &mut exact {
            let rows: Vec<_> = batch.iter().zip(&encoded).map(|((doc, _), e)| (*doc, e.embeddings.view())).collect();
            exact.add(&rows)?;
        }
    }
    let start = Instant::now();
    writer.commit(None, &BuildProgress(monitor))?;
    built.build += start.elapsed();
    Ok(built)
}

struct BuildProgress<'a>(&'a dyn Fn(EvalEvent));

impl Progress for BuildProgress<'_> {
    fn report(&self, stage: Stage, done: u64, total: u64) {
        (self.0)(EvalEvent::Building { stage, done, total });
    }
}

struct Searched {
    run: HashMap<String, Ranking>,
    encode: Vec<Duration>,
    search: Vec<Duration>,
}

/// Searches query by query, from text to hits; the first one once more before, untimed, to warm up.
fn search(
    collection: &Collection,
    encoder: &dyn Encoder,
    index: &Index,
    params: &SearchParams,
    monitor: &dyn Fn(EvalEvent),
) -> Result<Searched> {
    let searcher = index.searcher()?;
    let mut params = params.clone();
    params.k = DEPTH;
    let (mut encode, mut search, mut hits) = (Vec::new(), Vec::new(), Vec::new());
    let total = collection.queries.len();
    let warm_up = collection.queries.first().into_iter();
    for (at, query) in warm_up.chain(&collection.queries).enumerate() {
        let start = Instant::now();
        let encoded = encoder.encode_queries(&[&query.text])?;
        let encoded_after = start.elapsed();
        let found = searcher.search(&encoded[0].embeddings, &params)?;
        if at > 0 {
            encode.push(encoded_after);
            search.push(start.elapsed() - encoded_after);
            hits.push(found.hits);
        }
        monitor(EvalEvent::Searched { done: at, total });
    }
    Ok(Searched { run: rankings(collection, hits), encode, search })
}

/// Hits of each query under the collection's names.
fn rankings(collection: &Collection, hits: Vec<Vec<Hit>>) -> HashMap<String, Ranking> {
    let name = |hit: &Hit| (collection.documents[hit.doc.0 as usize].id.clone(), hit.score);
    let named =
        |(query, hits): (&Query, Vec<Hit>)| (query.id.clone(), Ranking { docs: hits.iter().map(name).collect() });
    collection.queries.iter().zip(hits).map(named).collect()
}
