//! Judged queries, one by one, from text to hits.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use latewood_engine::{DocId, Hit};
use serde::Serialize;

use super::beir::Query;
use super::metrics::{Judgements, Metrics, by_query, mean, shared};
use super::run::Ranking;
use crate::error::Result;
use crate::mode::Mode;
use crate::ranking::Asked;
use crate::reader::{Reader, SearchOptions};

/// Hits kept of each query: what the deepest metric looks at.
pub(super) const DEPTH: usize = 100;

/// Queries, and what answers them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Questions {
    /// The queries that have at least one positive judgement, in the file's order.
    pub queries: Vec<Query>,
    /// Which document answers which query, and how well.
    pub judgements: Judgements,
}

/// What came out in one mode.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ModeReport {
    /// Which.
    pub mode: Mode,
    /// How good.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Text in, hits out, one query at a time.
    pub latency_ms: Percentiles,
    /// The part of it that encodes the query.
    pub encode_query_ms: Percentiles,
    /// The part of it that searches.
    pub search_ms: Percentiles,
    /// The first hits of each query.
    #[serde(skip)]
    pub run: HashMap<String, Ranking>,
    /// Each query by itself.
    #[serde(skip)]
    pub queries: Vec<QueryReport>,
}

/// What became of one query.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct QueryReport {
    /// Its name.
    pub query: String,
    /// What it asks.
    pub text: String,
    /// How it was searched for.
    pub mode: Mode,
    /// How good what it found is.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// The rank of the first answer, from 1; none among those looked at.
    pub first_answer: Option<usize>,
    /// Answers that are not among those looked at.
    pub missed: Vec<String>,
    /// Share of what is nearest for certain, the first 10, that was found among the first 10.
    #[serde(rename = "recall@10_of_exact", skip_serializing_if = "Option::is_none")]
    pub recall_10_of_exact: Option<f64>,
}

/// Of many durations, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are faster.
    pub p50: f64,
    /// 95 of 100 are faster.
    pub p95: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
}

impl Percentiles {
    pub(super) fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |p: usize| {
            all.get((all.len() * p / 100).min(all.len().saturating_sub(1))).map_or(0.0, |d| d.as_secs_f64() * 1e3)
        };
        Self { p50: at(50), p95: at(95), p99: at(99) }
    }
}

/// Each query's hits, and the times it took.
pub(super) struct Searched {
    pub(super) hits: Vec<Vec<Hit>>,
    encode: Vec<Duration>,
    search: Vec<Duration>,
}

/// Searches query by query, `options.k` passages each; the first query once more before, untimed, to warm up.
pub(super) fn search(
    queries: &[Query],
    reader: &Reader,
    options: &SearchOptions,
    progress: &dyn Fn(usize),
) -> Result<Searched> {
    let mut searched = Searched { hits: Vec::new(), encode: Vec::new(), search: Vec::new() };
    let warm_up = queries.first().into_iter();
    for (at, query) in warm_up.chain(queries).enumerate() {
        let start = Instant::now();
        let encoded = match options.mode.uses_embeddings() {
            true => Some(reader.encoder().encode_queries(&[&query.text])?.remove(0).embeddings),
            false => None,
        };
        let encoded_after = start.elapsed();
        let found = reader.rank(&[Asked { text: Some(&query.text), rows: encoded.as_ref() }], options)?.remove(0);
        if at > 0 {
            searched.encode.push(encoded_after);
            searched.search.push(start.elapsed() - encoded_after);
            searched.hits.push(found.hits.into_iter().map(|hit| Hit { doc: hit.doc, score: hit.score }).collect());
        }
        progress(at);
    }
    Ok(searched)
}

impl Searched {
    /// What came out, the documents that were found being called as in `run`.
    pub(super) fn report(self, mode: Mode, questions: &Questions, run: HashMap<String, Ranking>) -> ModeReport {
        let metrics = by_query(&questions.judgements, &run);
        let one = |query: &Query| {
            let docs = run.get(&query.id).map_or(&[][..], |ranking| &ranking.docs);
            let answers = questions.judgements.of(&query.id).filter(|(_, grade)| *grade > 0);
            let mut missed: Vec<String> = answers.map(|(doc, _)| doc.to_owned()).collect();
            let first_answer = docs.iter().position(|(doc, _)| missed.contains(doc)).map(|at| at + 1);
            missed.retain(|answer| docs.iter().all(|(doc, _)| doc != answer));
            missed.sort_unstable();
            let metrics = metrics.get(&query.id).copied().unwrap_or_default();
            let (text, query) = (query.text.clone(), query.id.clone());
            QueryReport { query, text, mode, metrics, first_answer, missed, recall_10_of_exact: None }
        };
        ModeReport {
            mode,
            metrics: mean(metrics.values()),
            latency_ms: Percentiles::of(self.encode.iter().zip(&self.search).map(|(a, b)| *a + *b).collect()),
            encode_query_ms: Percentiles::of(self.encode),
            search_ms: Percentiles::of(self.search),
            queries: questions.queries.iter().map(one).collect(),
            run,
        }
    }
}

impl ModeReport {
    /// Sets what each query found, `found`, beside what is nearest for certain.
    pub(super) fn set_exact(&mut self, found: &HashMap<String, Ranking>, exact: &HashMap<String, Ranking>) {
        for query in &mut self.queries {
            let both = found.get(&query.query).zip(exact.get(&query.query));
            query.recall_10_of_exact = both.map(|(found, exact)| shared(found, exact, 10));
        }
    }
}

/// The documents of each query's hits, each where its best passage is; `names` is told which query it is, and says what a passage
/// is called: more than once, where it is several answers.
pub(super) fn rankings<'a>(
    queries: &[Query],
    hits: &[Vec<Hit>],
    names: impl Fn(usize, DocId) -> Vec<Cow<'a, str>>,
) -> HashMap<String, Ranking> {
    let documents = |query: usize, hits: &[Hit]| {
        let mut known = HashSet::new();
        let named = hits.iter().flat_map(|hit| names(query, hit.doc).into_iter().map(|name| (name, hit.score)));
        let first = named.filter(|(name, _)| known.insert(name.clone())).take(DEPTH);
        first.map(|(name, score)| (name.into_owned(), score)).collect()
    };
    let one =
        |(at, (query, hits)): (usize, (&Query, &Vec<Hit>))| (query.id.clone(), Ranking { docs: documents(at, hits) });
    queries.iter().zip(hits).enumerate().map(one).collect()
}
