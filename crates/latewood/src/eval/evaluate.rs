//! A collection through the whole product: encode, index, search, and the exact oracle beside it.
//!
//! As is the custom, a document is one passage, of which the model reads the beginning. Where it is to be split, as the product
//! splits documents, it ranks as its best passage does.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use latewood_encoder::Encoder;
use latewood_engine::exact::ExactSearch;
use latewood_engine::{DocId, IndexInfo, IndexOptions, QueryEmbeddings, Stage};
use latewood_ingest::PassageOptions;
use latewood_rerank::Ranker;
use serde::Serialize;

use super::beir::{Collection, Document};
use super::cascade::{self, StageMetrics};
use super::metrics::{Metrics, overlap, score};
use super::run::Ranking;
use super::searching::{DEPTH, ModeReport, Questions, rankings, search};
use crate::catalog::FileRecord;
use crate::device::Opened;
use crate::documents::{DocumentWriter, NewDocument};
use crate::error::{Error, Result};
use crate::mode::Mode;
use crate::reader::{Reader, SearchOptions};
use crate::sync::{Event, Monitor};
use crate::text_index::TextIndex;

/// Documents encoded at a time.
const BATCH: usize = 256;

/// How to evaluate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EvalOptions {
    /// Bits a dimension of the index.
    pub bits: u32,
    /// How to search; its `k` and `mode` are set from here.
    pub search: SearchOptions,
    /// The modes to search in.
    pub modes: Vec<Mode>,
    /// How to split documents into passages; not at all if none.
    pub passages: Option<PassageOptions>,
    /// Whether to compute exact MaxSim too, of documents that are not split.
    pub exact: bool,
    /// Where to leave the index; a temporary folder if none.
    pub index: Option<PathBuf>,
    /// Where searches run; the processor if none.
    pub device: Option<Opened>,
    /// A pipeline to measure beside the modes.
    pub pipeline: Option<Arc<Ranker>>,
    /// What brings its candidates, by query; the search that it says if none.
    pub candidates: Option<HashMap<String, Ranking>>,
}

impl Default for EvalOptions {
    fn default() -> Self {
        let (search, modes) = (SearchOptions::new(DEPTH), Mode::ALL.to_vec());
        let (passages, index, device, pipeline, candidates) = (None, None, None, None, None);
        Self { bits: 4, search, modes, passages, exact: true, index, device, pipeline, candidates }
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
    /// What each mode finds, and in what time.
    pub modes: Vec<ModeReport>,
    /// What each stage of the pipeline finds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pipeline: Vec<StageMetrics>,
    /// Metrics of exact MaxSim on the same embeddings.
    pub exact: Option<Metrics>,
    /// Share of the exact first 10 that the index finds among its first 10, by meaning alone.
    pub recall_10_of_exact: Option<f64>,
    /// The same of 100.
    pub recall_100_of_exact: Option<f64>,
    /// Documents.
    pub documents: usize,
    /// Passages.
    pub passages: usize,
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
    /// Bytes of the vectors' index.
    pub index_bytes: u64,
    /// Bytes of the keywords.
    pub keyword_bytes: u64,
    /// Bytes of the index a token vector.
    pub bytes_per_token: f64,
}

/// Runs the collection's judged queries.
///
/// # Errors
/// When encoding or the engine fails.
pub fn evaluate(
    collection: &Collection,
    encoder: &Arc<dyn Encoder>,
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
    let index = TextIndex::create(&dir, encoder.clone(), IndexOptions::new(encoder.dim()).bits(options.bits))?;
    let index = match &options.device {
        Some(device) => index.on(device),
        None => index,
    };
    let (queries, truncated_queries) = encode_queries(collection, &**encoder)?;
    let oracle = options.exact && options.passages.is_none();
    let mut exact = oracle.then(|| ExactSearch::new(&queries, DEPTH)).transpose()?;
    let built = Build { collection, encoder: &**encoder, index: &index, monitor }.run(options, exact.as_mut())?;
    let reader = index.reader()?;
    let mut modes = search_all(&collection.questions, &reader, options, monitor)?;
    let asked = options.modes.len() * collection.questions.queries.len();
    let name = |_, doc: DocId| reader.document_of(doc).map(Cow::Borrowed).into_iter().collect();
    let pipeline = options.pipeline.as_ref().map_or(Ok(Vec::new()), |ranker| {
        let total = asked + collection.questions.queries.len();
        let progress = |done| monitor(EvalEvent::Searched { done: asked + done, total });
        let of_document = |_, name: &str| passages_of(&reader, name);
        let given = options.candidates.as_ref().map(|run| cascade::Given { run, passages: &of_document });
        cascade::stages(&reader, ranker, &collection.questions, given.as_ref(), &name, &progress)
    })?;
    let exact = exact.map(|search| {
        let name =
            |_, doc: DocId| built.ids.get(doc.0 as usize).map(|id| Cow::Borrowed(id.as_str())).into_iter().collect();
        rankings(&collection.questions.queries, &search.finish(), name)
    });
    let info: IndexInfo = reader.info();
    let mut nearest = modes.iter_mut().find(|report| report.mode == Mode::Semantic);
    if let (Some(report), Some(exact)) = (&mut nearest, &exact) {
        let found = report.run.clone();
        report.set_exact(&found, exact);
    }
    let share = |k| Some(overlap(&nearest.as_ref()?.run, exact.as_ref()?, k));
    let (recall_10_of_exact, recall_100_of_exact) = (share(10), share(100));
    Ok(EvalReport {
        recall_10_of_exact,
        recall_100_of_exact,
        exact: exact.as_ref().map(|run| score(&collection.questions.judgements, run)),
        modes,
        pipeline,
        documents: collection.documents.len(),
        passages: info.docs(),
        empty_documents: built.empty,
        truncated_documents: built.truncated,
        queries: collection.questions.queries.len(),
        truncated_queries,
        tokens: built.rows,
        encode_s: built.encode.as_secs_f64(),
        encode_tokens_per_s: built.pieces as f64 / built.encode.as_secs_f64().max(1e-9),
        build_s: built.build.as_secs_f64(),
        index_bytes: info.bytes(),
        keyword_bytes: reader.keyword_bytes(),
        bytes_per_token: info.bytes() as f64 / built.rows.max(1) as f64,
    })
}

/// All passages of a document; none where there is no such.
fn passages_of(reader: &Reader, name: &str) -> Vec<DocId> {
    reader.catalog().get(name).into_iter().flat_map(FileRecord::docs).map(DocId).collect()
}

/// Searches in all modes.
fn search_all(
    questions: &Questions,
    reader: &Reader,
    options: &EvalOptions,
    monitor: &dyn Fn(EvalEvent),
) -> Result<Vec<ModeReport>> {
    // Of a document that is split, several passages may be among the first.
    let split = reader.catalog().files.iter().any(|file| file.passages.len() > 1);
    let (queries, k) = (&questions.queries, if split { 3 * DEPTH } else { DEPTH });
    let total = options.modes.len() * queries.len();
    let searched = |(at, &mode): (usize, &Mode)| {
        let progress = |done| monitor(EvalEvent::Searched { done: at * queries.len() + done, total });
        let found = search(queries, reader, &SearchOptions { mode, k, ..options.search.clone() }, &progress)?;
        let run =
            rankings(queries, &found.hits, |_, doc| reader.document_of(doc).map(Cow::Borrowed).into_iter().collect());
        Ok(found.report(mode, questions, run))
    };
    options.modes.iter().enumerate().map(searched).collect()
}

fn encode_queries(collection: &Collection, encoder: &dyn Encoder) -> Result<(Vec<QueryEmbeddings>, usize)> {
    let texts: Vec<&str> = collection.questions.queries.iter().map(|query| query.text.as_str()).collect();
    let encoded = encoder.encode_queries(&texts)?;
    let truncated = encoded.iter().filter(|query| query.truncated).count();
    Ok((encoded.into_iter().map(|query| query.embeddings).collect(), truncated))
}

/// A build under way.
struct Build<'a> {
    collection: &'a Collection,
    encoder: &'a dyn Encoder,
    index: &'a TextIndex,
    monitor: &'a dyn Fn(EvalEvent),
}

#[derive(Default)]
struct Built {
    /// The documents that were not empty, in order.
    ids: Vec<String>,
    empty: usize,
    truncated: usize,
    rows: u64,
    pieces: u64,
    encode: Duration,
    build: Duration,
}

impl Build<'_> {
    fn run(&self, options: &EvalOptions, exact: Option<&mut ExactSearch>) -> Result<Built> {
        let mut texts: Vec<(&Document, String)> =
            self.collection.documents.iter().map(|document| (document, document.full_text())).collect();
        texts.retain(|(_, text)| !text.is_empty());
        let mut built = Built {
            ids: texts.iter().map(|(document, _)| document.id.clone()).collect(),
            empty: self.collection.documents.len() - texts.len(),
            ..Built::default()
        };
        let mut writer = self.index.writer(options.passages.clone().unwrap_or_default())?;
        match &options.passages {
            None => self.whole(&texts, &mut writer, &mut built, exact)?,
            Some(_) => self.split(&texts, &mut writer, &mut built)?,
        }
        let start = Instant::now();
        let committed = writer.commit(&BuildMonitor(self.monitor))?;
        built.build += start.elapsed();
        built.rows = committed.tokens;
        built.truncated += committed.truncated;
        Ok(built)
    }

    /// Encodes each document as one passage; shows them to the oracle on the way.
    fn whole(
        &self,
        texts: &[(&Document, String)],
        writer: &mut DocumentWriter<'_>,
        built: &mut Built,
        mut exact: Option<&mut ExactSearch>,
    ) -> Result<()> {
        let at_once = self.encoder.documents_at_once().max(BATCH);
        for (at, batch) in texts.chunks(at_once).enumerate() {
            (self.monitor)(EvalEvent::Encoded { done: at * at_once, total: texts.len() });
            let start = Instant::now();
            let whole: Vec<&str> = batch.iter().map(|(_, text)| text.as_str()).collect();
            let encoded = self.encoder.encode_documents(&whole)?;
            built.encode += start.elapsed();
            let start = Instant::now();
            for ((document, text), encoded) in batch.iter().zip(&encoded) {
                let rows = encoded.embeddings.view().with_token_ids(&encoded.token_ids)?;
                writer.put_encoded(&document.id, text, rows)?;
            }
            built.build += start.elapsed();
            built.truncated += encoded.iter().filter(|e| e.truncated).count();
            built.pieces +=
                encoded.iter().map(|e| e.tokens.min(self.encoder.max_document_tokens()) as u64).sum::<u64>();
            if let Some(exact) = &mut exact {
                let ids = (at * at_once..).map(|at| DocId(at as u64));
                let rows: Vec<_> = ids.zip(&encoded).map(|(doc, e)| (doc, e.embeddings.view())).collect();
                exact.add(&rows)?;
            }
        }
        Ok(())
    }

    /// Adds documents as the product does.
    fn split(&self, texts: &[(&Document, String)], writer: &mut DocumentWriter<'_>, built: &mut Built) -> Result<()> {
        let start = Instant::now();
        for (at, (document, text)) in texts.iter().enumerate() {
            if at % BATCH == 0 {
                (self.monitor)(EvalEvent::Encoded { done: at, total: texts.len() });
            }
            let title = Some(document.title.clone()).filter(|title| !title.is_empty());
            // A document that is nothing but a title is that.
            let text = if document.text.trim().is_empty() { text } else { &document.text };
            writer.put(NewDocument { title, ..NewDocument::text(&document.id, text) }, &())?;
            built.pieces += self.encoder.count_tokens(text) as u64;
        }
        built.encode = start.elapsed();
        Ok(())
    }
}

struct BuildMonitor<'a>(&'a dyn Fn(EvalEvent));

impl Monitor for BuildMonitor<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Building { stage, done, total } = event {
            (self.0)(EvalEvent::Building { stage, done, total });
        }
    }
}
