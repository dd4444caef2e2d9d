//! Searches, by text or by token embeddings, one or many at once.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use latewood::engine::{QueryEmbeddings, Timings};
use latewood::{Answer, Filter, Hit, SearchOptions, StageScores, TokenMatch};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::Instrument;
use tracing::field::Empty;
use utoipa::ToSchema;

use super::description::{FilterSchema, Words};
use super::pipelines::{self, PipelineReport};
use super::{Lines, SEARCH, Span, read_path};
use crate::error::{ApiError, ErrorBody};
use crate::json::{Body, or_default, whole};
use crate::matrix::Matrix;
use crate::state::AppState;

/// The index that `/v1/search` searches.
pub(crate) const DEFAULT_INDEX: &str = "default";

/// Hits of all queries of a search.
const HITS: usize = 10_000;
/// The same where they are explained.
const EXPLAINED_HITS: usize = 1000;

/// A search. Give one of `query`, `queries`, `embeddings` and `embeddings_batch`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchRequest {
    /// What is looked for, in words.
    #[schema(pattern = r"\S", example = "how hot is a kiln?")]
    query: Option<String>,
    /// Several at once.
    #[schema(value_type = Option<Vec<Words>>, min_items = 1, max_items = 100)]
    queries: Option<Vec<String>>,
    /// A query encoded by the index's model; a row's norm is its weight.
    embeddings: Option<Matrix>,
    /// Several at once.
    #[schema(min_items = 1, max_items = 100)]
    embeddings_batch: Option<Vec<Matrix>>,
    /// Passages wanted.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 1000, default = 10)]
    k: Option<usize>,
    /// Which documents may be found: `{"lang": "rust", "stars": {"$gte": 100}, "path": {"$glob": "docs/**"}}`; also $or, $and,
    /// $not, $ne, $gt, $lt, $lte, $in, $nin, $exists.
    #[schema(value_type = Option<FilterSchema>)]
    filter: Option<Map<String, Value>>,
    /// How to find passages; hybrid unless said. A pipeline says it itself.
    mode: Option<Mode>,
    /// Whether hits say which token of the passage each token of the query met.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(nullable)]
    explain: bool,
    /// Put what is found in order by the stages of this pipeline; `/v1/pipelines` lists them. Queries are then in words.
    pipeline: Option<String>,
    /// Whether the answer says what the stages of the pipeline did.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(nullable)]
    report: bool,
}

impl SearchRequest {
    /// For a query in words, otherwise as usual.
    pub(crate) fn of(query: String, k: usize, filter: Option<Map<String, Value>>) -> Self {
        let (queries, embeddings, embeddings_batch) = (None, None, None);
        let (mode, explain, pipeline, report) = (None, false, None, false);
        let (query, k) = (Some(query), Some(k));
        Self { query, queries, embeddings, embeddings_batch, k, filter, mode, explain, pipeline, report }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// By meaning and by keywords: the first of both, by a weighted sum of their scores. Embeddings alone are ranked by
    /// meaning.
    #[default]
    Hybrid,
    /// By meaning: candidates by centroids, the best of them scored.
    Semantic,
    /// By keywords alone (BM25): the model is not asked.
    Keyword,
    /// The first by keywords, put in order by meaning.
    Rerank,
    /// By meaning, every passage that may be found being scored.
    Exhaustive,
}

impl Mode {
    fn set(self, options: &mut SearchOptions) {
        options.exhaustive = self == Self::Exhaustive;
        options.mode = match self {
            Self::Semantic | Self::Exhaustive => latewood::Mode::Semantic,
            Self::Hybrid => latewood::Mode::Hybrid,
            Self::Keyword => latewood::Mode::Keyword,
            Self::Rerank => latewood::Mode::Rerank,
        };
    }
}

/// What a search found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum SearchResponse {
    One(Found),
    Many(FoundMany),
}

/// Hits of several queries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FoundMany {
    /// In the order of the queries.
    results: Vec<Found>,
}

/// Hits of one query.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Found {
    /// Best first.
    pub(crate) hits: Vec<SearchHit>,
    /// Passages that were candidates.
    candidates: usize,
    /// Passages that were scored on their compressed tokens.
    rescored: usize,
    /// Whether every candidate was scored, so that the hits are the best of them for certain.
    exact_among_candidates: bool,
    timings_ms: TimingsMs,
    /// What a pipeline did, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pipeline: Option<PipelineReport>,
    /// Stages of the pipeline that failed, in part or whole: what came before them is the order. The server's log says why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) failed: Vec<String>,
}

/// Milliseconds in each stage of the search, which a pipeline's stages come after; of several queries, encoding is that of all
/// together.
#[derive(Debug, Serialize, ToSchema)]
struct TimingsMs {
    encode: f64,
    centroids: f64,
    gather: f64,
    prune: f64,
    rescore: f64,
    refine: f64,
    /// Looking for keywords, and scoring what they brought.
    keywords: f64,
}

/// A passage that was found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchHit {
    /// Its document: the id it was added under; in the index of a folder, the path of its file.
    pub(crate) document: String,
    /// The passage's number, as long as its document's content does not change.
    passage: u64,
    /// How well it fits, at most 1: the mean, over the query's tokens, of the best cosine; in mode hybrid, of that and of its
    /// keywords by their weight. In mode keyword, BM25. By a pipeline, its last stage's, of any size.
    pub(crate) score: f32,
    /// The mean of the best cosines, where keywords count too.
    #[serde(skip_serializing_if = "Option::is_none")]
    semantic: Option<f32>,
    /// BM25, where it does not count alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    keyword: Option<f32>,
    pub(crate) title: Option<String>,
    pub(crate) headings: Vec<String>,
    pub(crate) lines: Lines,
    /// The page, slide or sheet it begins on, from 1, where its file has such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) page: Option<u32>,
    span: Span,
    pub(crate) text: String,
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    /// For each token of the query what it met, if the search was to explain.
    #[serde(skip_serializing_if = "Option::is_none")]
    matches: Option<Vec<Match>>,
    /// What the stages of a pipeline gave it; the score is then the last one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<HitStages>,
}

/// What stages gave a hit.
#[derive(Debug, Serialize, ToSchema)]
struct HitStages {
    /// By the stage's name; `retrieve` is the search's.
    scores: BTreeMap<String, f32>,
    /// What each signal of a metadata stage added there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    signals: BTreeMap<String, f32>,
    /// Its place before any stage, from 0.
    came_as: usize,
}

impl From<StageScores> for HitStages {
    fn from(given: StageScores) -> Self {
        let StageScores { scores, signals, came_as, .. } = given;
        Self { scores, signals, came_as }
    }
}

/// What one token of the query met.
#[derive(Debug, Serialize, ToSchema)]
struct Match {
    /// Bytes of the query; null for what stands for no word of it.
    query: Option<Span>,
    /// Bytes of the passage's text; null where it met the title or a heading, or no word.
    text: Option<Span>,
    /// The word of the title or a heading above the passage that it met instead.
    above: Option<String>,
    /// Its part in the hit's score by meaning; in mode keyword, by keywords.
    score: f32,
}

impl From<TokenMatch> for Match {
    fn from(found: TokenMatch) -> Self {
        let (query, text) = (found.query.map(Span::from), found.text.map(Span::from));
        Self { query, text, above: found.above, score: found.score }
    }
}

impl From<Hit> for SearchHit {
    fn from(hit: Hit) -> Self {
        let passage = hit.passage;
        Self {
            document: passage.path,
            passage: passage.doc.0,
            score: hit.score,
            semantic: hit.semantic,
            keyword: hit.keyword,
            title: passage.title,
            headings: passage.headings,
            lines: passage.lines.into(),
            page: passage.page,
            span: passage.span.into(),
            text: passage.text,
            metadata: passage.metadata,
            matches: hit.matches.map(|matches| matches.into_iter().map(Match::from).collect()),
            stages: hit.stages.map(HitStages::from),
        }
    }
}

impl From<Answer> for Found {
    fn from(answer: Answer) -> Self {
        // Whole microseconds.
        let ms = |d: Duration| d.as_micros() as f64 / 1e3;
        let timings_ms = TimingsMs {
            encode: ms(answer.encode),
            centroids: ms(answer.search.centroids),
            gather: ms(answer.search.gather),
            prune: ms(answer.search.prune),
            rescore: ms(answer.search.rescore),
            refine: ms(answer.search.refine),
            keywords: ms(answer.keywords),
        };
        Self {
            hits: answer.hits.into_iter().map(SearchHit::from).collect(),
            candidates: answer.candidates,
            rescored: answer.rescored,
            exact_among_candidates: answer.exact_among_candidates,
            timings_ms,
            pipeline: None,
            failed: Vec::new(),
        }
    }
}

/// Search an index
#[utoipa::path(post, path = "/v1/indexes/{index}/search", tag = SEARCH, params(("index" = String, Path)),
    request_body = SearchRequest, responses(
    (status = 200, body = SearchResponse),
    (status = 422, body = ErrorBody, description = "Embeddings are of another dimension")
))]
pub(crate) async fn search(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    body: Body<SearchRequest>,
) -> Result<Json<SearchResponse>, ApiError> {
    run(&state, &read_path(path)?, body.0).await.map(Json)
}

/// Search the index "default": that of the folder that is served
#[utoipa::path(post, path = "/v1/search", tag = SEARCH, request_body = SearchRequest, responses(
    (status = 200, body = SearchResponse),
    (status = 404, body = ErrorBody, description = "No folder is served"),
    (status = 422, body = ErrorBody, description = "Embeddings are of another dimension")
))]
pub(crate) async fn search_default(
    State(state): State<AppState>,
    body: Body<SearchRequest>,
) -> Result<Json<SearchResponse>, ApiError> {
    run(&state, DEFAULT_INDEX, body.0).await.map(Json)
}

/// The queries of a request: their texts, if they are texts, and whether there is one, not a list.
struct Queries {
    texts: Vec<String>,
    embeddings: Vec<QueryEmbeddings>,
    encode: Duration,
    one: bool,
}

/// Searches `index`.
pub(crate) async fn run(state: &AppState, index: &str, request: SearchRequest) -> Result<SearchResponse, ApiError> {
    let served = state.index(index)?;
    let most = state.limits().k;
    let k = request.k.unwrap_or(10);
    if !(1..=most).contains(&k) {
        return Err(ApiError::bad_request(format!("k is {k}: it must be between 1 and {most}")));
    }
    let mut options = SearchOptions::new(k);
    request.mode.unwrap_or_default().set(&mut options);
    options.explain = request.explain;
    if let Some(filter) = request.filter {
        // Patterns may take a while to compile.
        let parsed = state.compute(move || Ok(Filter::parse(&Value::Object(filter))?)).await?;
        options.filter = Some(parsed);
    }
    let asked = request.queries.as_ref().map_or(1, Vec::len).max(request.embeddings_batch.as_ref().map_or(1, Vec::len));
    let most = if options.explain { EXPLAINED_HITS } else { HITS };
    if asked.saturating_mul(k) > most {
        let text = format!("{asked} queries and k = {k}: a search gives {most} hits at most, all queries together");
        return Err(ApiError::bad_request(text));
    }
    if let Some(name) = request.pipeline {
        if request.mode.is_some() {
            let text = format!("pipeline {name:?} says how it searches: leave \"mode\" out, or give another pipeline");
            return Err(ApiError::bad_request(text));
        }
        let (queries, one) = match (request.query, request.queries) {
            (Some(query), None) => (vec![query], true),
            (None, Some(queries)) => (queries, false),
            _ => return Err(ApiError::bad_request("a pipeline reads words: give one of \"query\" and \"queries\"")),
        };
        check_queries(state, queries.len())?;
        let asked = pipelines::Asked { name, queries, options, report: request.report };
        return Ok(response(pipelines::run(state, &served, asked).await?, one));
    }
    let given = (request.query, request.queries, request.embeddings, request.embeddings_batch);
    let mode = options.mode;
    let Queries { texts, embeddings, encode, one } = queries(state, given, mode).await?;
    let search = move |reader: &latewood::Reader| {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut answers = reader.search_encoded(&embeddings, &texts, &options)?;
        answers.iter_mut().for_each(|answer| answer.encode = encode);
        Ok(answers)
    };
    let span = tracing::info_span!(
        "search",
        index,
        queries = asked,
        k,
        mode = mode.name(),
        candidates = Empty,
        rescored = Empty,
        hits = Empty,
        centroids_ms = Empty,
        gather_ms = Empty,
        prune_ms = Empty,
        rescore_ms = Empty,
        refine_ms = Empty,
        keywords_ms = Empty
    );
    let answers = state.read(&served, search).instrument(span.clone()).await?;
    tell(&span, &answers);
    answers.iter().for_each(|answer| state.metrics().search(&answer.search));
    Ok(response(answers.into_iter().map(Found::from).collect(), one))
}

fn response(mut found: Vec<Found>, one: bool) -> SearchResponse {
    match found.pop() {
        Some(only) if one => SearchResponse::One(only),
        last => SearchResponse::Many(FoundMany { results: found.into_iter().chain(last).collect() }),
    }
}

fn check_queries(state: &AppState, count: usize) -> Result<(), ApiError> {
    let most = state.limits().queries;
    match count {
        count if count == 0 || count > most => {
            Err(ApiError::bad_request(format!("{count} queries: a search has 1 to {most}")))
        }
        _ => Ok(()),
    }
}

/// Tells a search's span its figures, all queries together.
fn tell(span: &tracing::Span, answers: &[Answer]) {
    if span.is_disabled() {
        return;
    }
    let sum = |of: fn(&Answer) -> usize| answers.iter().map(of).sum::<usize>();
    span.record("candidates", sum(|answer| answer.candidates));
    span.record("rescored", sum(|answer| answer.rescored));
    span.record("hits", sum(|answer| answer.hits.len()));
    let ms =
        |of: fn(&Timings) -> Duration| answers.iter().map(|answer| of(&answer.search).as_secs_f64() * 1e3).sum::<f64>();
    span.record("centroids_ms", ms(|timings| timings.centroids));
    span.record("gather_ms", ms(|timings| timings.gather));
    span.record("prune_ms", ms(|timings| timings.prune));
    span.record("rescore_ms", ms(|timings| timings.rescore));
    span.record("refine_ms", ms(|timings| timings.refine));
    span.record("keywords_ms", answers.iter().map(|answer| answer.keywords.as_secs_f64() * 1e3).sum::<f64>());
}

type Given = (Option<String>, Option<Vec<String>>, Option<Matrix>, Option<Vec<Matrix>>);

async fn queries(state: &AppState, given: Given, mode: latewood::Mode) -> Result<Queries, ApiError> {
    let (texts, matrices, one) = match given {
        (Some(query), None, None, None) => (vec![query], Vec::new(), true),
        (None, Some(queries), None, None) => (queries, Vec::new(), false),
        (None, None, Some(matrix), None) => (Vec::new(), vec![matrix], true),
        (None, None, None, Some(matrices)) => (Vec::new(), matrices, false),
        _ => {
            let text =
                "give one of \"query\" (text), \"queries\", \"embeddings\" (rows of numbers) and \"embeddings_batch\"";
            return Err(ApiError::bad_request(text));
        }
    };
    check_queries(state, texts.len() + matrices.len())?;
    if texts.is_empty() {
        let embeddings = matrices.into_iter().map(|m| QueryEmbeddings::new(m.values, m.dim));
        let embeddings = embeddings.collect::<Result<_, _>>()?;
        return Ok(Queries { texts, embeddings, encode: Duration::ZERO, one });
    }
    if !mode.uses_embeddings() {
        if texts.iter().any(|text| text.trim().is_empty()) {
            return Err(latewood::Error::EmptyQuery.into());
        }
        return Ok(Queries { texts, embeddings: Vec::new(), encode: Duration::ZERO, one });
    }
    let (embeddings, encode) = state.queries().encode(&texts).await?;
    Ok(Queries { texts, embeddings, encode, one })
}
