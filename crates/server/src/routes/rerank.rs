//! Reranking, in the shapes that clients already speak: Cohere's, Jina's and text-embeddings-inference's.
//!
//! One handler serves all paths. `documents` (Cohere, Jina) is answered with `results`, `texts` (text-embeddings-inference)
//! with a bare list. Documents of an index may be named by id instead (`index` and `ids`): they are scored as they are
//! stored, and none is encoded. Fields that these services know and that change nothing here are accepted and ignored.

use axum::Json;
use axum::extract::State;
use latewood::encoder::Encoder;
use latewood::engine::QueryEmbeddings;
use latewood::rerank::{Candidate, Host, Report};
use latewood::score_texts;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::Instrument;
use utoipa::ToSchema;

use super::pipelines::{self, PipelineReport};
use super::{RERANK, check_bytes};
use crate::error::ApiError;
use crate::json::{Body, or_default, whole};
use crate::state::{AppState, Work};

/// Texts to be put in order. Give `documents`, `texts`, or `index` and `ids`.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RerankRequest {
    /// What they are to fit.
    #[schema(pattern = r"\S", example = "how hot is a kiln?")]
    query: String,
    /// As Cohere and Jina have it: texts, or objects with a `text`.
    #[schema(min_items = 1)]
    documents: Option<Vec<RerankDocument>>,
    /// As text-embeddings-inference has it.
    #[schema(min_items = 1)]
    texts: Option<Vec<String>>,
    /// The index of documents that are there already.
    index: Option<String>,
    /// Their ids.
    #[schema(min_items = 1)]
    ids: Option<Vec<String>>,
    /// How many to return; all unless said.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = 1)]
    top_n: Option<usize>,
    /// Another name of `top_n`.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = 1)]
    top_k: Option<usize>,
    /// Whether to return their texts.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(nullable)]
    return_documents: bool,
    /// Whether to return their texts, as text-embeddings-inference has it.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(nullable)]
    return_text: bool,
    /// Whether scores are sums of cosines over the query's tokens instead of their mean, cut off at 0.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(nullable)]
    raw_scores: bool,
    /// Of objects, the fields to read instead of `text`, one after the other.
    rank_fields: Option<Vec<String>>,
    /// Puts `documents` or `texts` in order by the stages of this pipeline instead; `/v1/pipelines` lists them. Scores are then
    /// those of its last stage, as they are.
    pipeline: Option<String>,
    /// Whether the answer says what the stages of the pipeline did; not in a bare list.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(nullable)]
    report: bool,
    /// Accepted and ignored: the server has one model.
    #[allow(dead_code, reason = "a part of the interface")]
    model: Option<String>,
}

/// A text, or an object that has one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum RerankDocument {
    Text(String),
    #[schema(value_type = Object)]
    Object(Map<String, Value>),
}

/// The order, in the shape that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum RerankResponse {
    Results(RerankResults),
    Ranks(Vec<Rank>),
}

/// As Cohere and Jina answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RerankResults {
    /// Of this answer.
    id: String,
    model: String,
    /// Best first.
    results: Vec<RerankResult>,
    meta: Meta,
    usage: Usage,
    /// What a pipeline did, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<PipelineReport>,
    /// Stages of the pipeline that failed, in part or whole: what came before them is the order. The server's log says why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RerankResult {
    /// Its place in the request.
    index: usize,
    /// The mean, over the query's tokens, of the best cosine, in [0, 1]; by a pipeline, its last stage's, of any size.
    relevance_score: f32,
    /// Its id, if it was named by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    document_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<TextObject>,
}

#[derive(Debug, Serialize, ToSchema)]
struct TextObject {
    text: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Meta {
    api_version: ApiVersion,
    billed_units: BilledUnits,
}

#[derive(Debug, Serialize, ToSchema)]
struct ApiVersion {
    version: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct BilledUnits {
    search_units: u32,
}

#[derive(Debug, Serialize, ToSchema)]
struct Usage {
    total_tokens: usize,
}

/// As text-embeddings-inference answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rank {
    /// Its place in the request.
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// As [`rerank`], under the path of Cohere's first interface and of Jina's.
#[utoipa::path(post, path = "/v1/rerank", operation_id = "rerank_v1", tag = RERANK, request_body = RerankRequest, responses(
    (status = 200, body = RerankResponse, description = "`results` for `documents` and `ids`, a bare list for `texts`")
))]
pub(crate) async fn rerank_v1(
    state: State<AppState>,
    body: Body<RerankRequest>,
) -> Result<Json<RerankResponse>, ApiError> {
    rerank(state, body).await
}

/// As [`rerank`], under the path of text-embeddings-inference.
#[utoipa::path(post, path = "/rerank", operation_id = "rerank_tei", tag = RERANK, request_body = RerankRequest, responses(
    (status = 200, body = RerankResponse, description = "`results` for `documents` and `ids`, a bare list for `texts`")
))]
pub(crate) async fn rerank_tei(
    state: State<AppState>,
    body: Body<RerankRequest>,
) -> Result<Json<RerankResponse>, ApiError> {
    rerank(state, body).await
}

/// What was put in order.
struct Order {
    scored: Vec<Scored>,
    /// Tokens that were read for it.
    tokens: usize,
    /// Of a pipeline.
    report: Option<Report>,
}

impl Order {
    fn without_stages(scored: Vec<Scored>, tokens: usize) -> Self {
        Self { scored, tokens, report: None }
    }
}

/// Something that was scored.
struct Scored {
    index: usize,
    score: f32,
    id: Option<String>,
    text: String,
}

/// Put texts in order by a query
#[utoipa::path(post, path = "/v2/rerank", tag = RERANK, request_body = RerankRequest, responses(
    (status = 200, body = RerankResponse, description = "`results` for `documents` and `ids`, a bare list for `texts`")
))]
pub(crate) async fn rerank(
    State(state): State<AppState>,
    body: Body<RerankRequest>,
) -> Result<Json<RerankResponse>, ApiError> {
    let Body(request) = body;
    for (name, count) in [("top_n", request.top_n), ("top_k", request.top_k)] {
        if count == Some(0) {
            return Err(ApiError::bad_request(format!("{name} is 0: it must be at least 1")));
        }
    }
    let top_n = request.top_n.or(request.top_k);
    let bare = request.texts.is_some();
    let with_text = request.return_documents || request.return_text;
    let (query, raw, by_stages) = (request.query.clone(), request.raw_scores, request.pipeline.is_some());
    let (embeddings, _) = state.queries().encode(std::slice::from_ref(&query)).await?;
    let query_rows = embeddings[0].len();
    let wants_report = request.report;
    let Order { mut scored, tokens: read_tokens, report } = score(&state, request, embeddings).await?;
    // A pipeline's order is its own, where scores are equal as well.
    if !by_stages {
        scored.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
    }
    let count = scored.len();
    scored.truncate(top_n.unwrap_or(usize::MAX));
    state.metrics().reranked(&scored.iter().map(|scored| scored.index).collect::<Vec<_>>());
    let score_of = |scored: &Scored| match raw {
        _ if by_stages => scored.score,
        true => scored.score * query_rows as f32,
        false => scored.score.clamp(0.0, 1.0),
    };
    if bare {
        let rank = |scored: Scored| {
            let score = score_of(&scored);
            Rank { index: scored.index, score, text: with_text.then_some(scored.text) }
        };
        return Ok(Json(RerankResponse::Ranks(scored.into_iter().map(rank).collect())));
    }
    let total_tokens = state.encoder().count_tokens(&query) + read_tokens;
    let result = |scored: Scored| RerankResult {
        index: scored.index,
        relevance_score: score_of(&scored),
        document_id: scored.id,
        document: with_text.then_some(TextObject { text: scored.text }),
    };
    Ok(Json(RerankResponse::Results(RerankResults {
        id: format!("rerank-{:016x}", state.next_id()),
        model: state.encoder().model_id().as_str().into(),
        results: scored.into_iter().map(result).collect(),
        meta: Meta { api_version: ApiVersion { version: "2" }, billed_units: BilledUnits { search_units: 1 } },
        usage: Usage { total_tokens },
        failed: report.as_ref().map(pipelines::failed).unwrap_or_default(),
        pipeline: report.filter(|_| wants_report).map(|report| PipelineReport::new(report, count, 0.0)),
    })))
}

async fn score(state: &AppState, request: RerankRequest, query: Vec<QueryEmbeddings>) -> Result<Order, ApiError> {
    let RerankRequest { documents, texts, index, ids, rank_fields, pipeline, query: asked, .. } = request;
    if let Some(name) = pipeline {
        let candidate = |(at, document)| candidate(at, document, rank_fields.as_deref());
        let candidates: Vec<Candidate> = match (documents, texts, index, ids) {
            (Some(documents), None, None, None) => {
                documents.into_iter().enumerate().map(candidate).collect::<Result<_, _>>()?
            }
            (None, Some(texts), None, None) => {
                let texts = texts.into_iter().map(RerankDocument::Text).enumerate();
                texts.map(candidate).collect::<Result<_, _>>()?
            }
            _ => return Err(ApiError::bad_request("a pipeline puts \"documents\" or \"texts\" in order")),
        };
        return by_pipeline(state, candidates, asked, &name).await;
    }
    match (documents, texts, index, ids) {
        (Some(documents), None, None, None) => {
            let read = |(at, document)| text_of(at, document, rank_fields.as_deref());
            let texts = documents.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
            score_given(state, texts, query).await
        }
        (None, Some(texts), None, None) => score_given(state, texts, query).await,
        (None, None, index, Some(ids)) => {
            let served = state.index(index.as_deref().unwrap_or(super::search::DEFAULT_INDEX))?;
            let documents = ids.len();
            check_count(documents, state.limits().documents)?;
            let rerank = move |reader: &latewood::Reader| {
                let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
                let hits = reader.rerank(&query[0], &wanted)?;
                let place = |path: &str| ids.iter().position(|id| id == path).unwrap_or_default();
                let scored = hits.into_iter().map(|hit| Scored {
                    index: place(&hit.passage.path),
                    score: hit.score,
                    text: hit.passage.text,
                    id: Some(hit.passage.path),
                });
                // Nothing was read: it is all in the index.
                Ok(Order::without_stages(scored.collect(), 0))
            };
            state.read(&served, rerank).instrument(tracing::info_span!("rerank", index = served.name, documents)).await
        }
        _ => Err(ApiError::bad_request("give \"documents\", or \"texts\", or \"index\" and \"ids\"")),
    }
}

async fn score_given(state: &AppState, texts: Vec<String>, query: Vec<QueryEmbeddings>) -> Result<Order, ApiError> {
    check_count(texts.len(), state.limits().texts)?;
    check_bytes(&texts, state.limits().text_bytes)?;
    let encoder = state.encoder().clone();
    state
        .encode(texts.len(), move |stopped| {
            let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
            let scores = score_texts(&*encoder, &query[0], &borrowed, stopped)?;
            let tokens = borrowed.iter().map(|text| encoder.count_tokens(text)).sum();
            let scored = texts.into_iter().zip(scores).enumerate();
            let scored = scored.map(|(index, (text, score))| Scored { index, score, id: None, text });
            Ok(Order::without_stages(scored.collect(), tokens))
        })
        .await
}

/// A document as stages see it: an object's `title`, `metadata` and `score` count, where stages ask for them.
fn candidate(at: usize, document: RerankDocument, fields: Option<&[String]>) -> Result<Candidate, ApiError> {
    let object = match &document {
        RerankDocument::Object(object) => object.clone(),
        RerankDocument::Text(_) => Map::new(),
    };
    let score = object.get("score").and_then(Value::as_f64).unwrap_or_default() as f32;
    let mut candidate = Candidate::new(at.to_string(), text_of(at, document, fields)?, score);
    candidate.title = object.get("title").and_then(Value::as_str).map(str::to_owned);
    candidate.metadata = object.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    Ok(candidate)
}

/// Puts texts in order by the stages of a pipeline.
async fn by_pipeline(
    state: &AppState,
    candidates: Vec<Candidate>,
    query: String,
    name: &str,
) -> Result<Order, ApiError> {
    check_count(candidates.len(), state.limits().texts)?;
    let texts: Vec<String> = candidates.iter().map(|candidate| candidate.text.clone()).collect();
    check_bytes(&texts, state.limits().text_bytes)?;
    let (ranker, encoder, name) = (pipelines::named(state, name)?, state.encoder().clone(), name.to_owned());
    let metrics = state.metrics().clone();
    // Late interaction encodes what is in no index.
    let work = match Work::of(&ranker) {
        Work::Waiting => Work::Waiting,
        Work::Encoding | Work::Searching => Work::Encoding,
    };
    let (room, until) = (state.room(work), state.until());
    let span = tracing::info_span!("rerank", pipeline = name, documents = candidates.len());
    let rank = move |stopped: &(dyn Fn() -> bool + Sync)| {
        let tokens = texts.iter().map(|text| encoder.count_tokens(text)).sum();
        let host = Host { stopped, room: &*room, until };
        let ranked = latewood::rank_texts_for(&*encoder, &query, candidates, &ranker, &host)?;
        pipelines::log_failures(&name, &ranked.report);
        metrics.pipeline(&name, &ranked.report);
        let report = Some(ranked.report);
        let scored = ranked.candidates.into_iter().map(|candidate| Scored {
            index: candidate.came_as,
            score: candidate.score,
            id: None,
            text: candidate.text,
        });
        Ok(Order { scored: scored.collect(), tokens, report })
    };
    state.work(work, rank).instrument(span).await
}

fn check_count(count: usize, most: usize) -> Result<(), ApiError> {
    match count {
        0 => Err(ApiError::bad_request("there is nothing to put in order")),
        _ if count > most => Err(ApiError::too_large(format!("{count} texts, and a request may have {most}"))),
        _ => Ok(()),
    }
}

/// What is read of a document.
fn text_of(at: usize, document: RerankDocument, fields: Option<&[String]>) -> Result<String, ApiError> {
    let object = match document {
        RerankDocument::Text(text) => return Ok(text),
        RerankDocument::Object(object) => object,
    };
    let field = |name: &str| match object.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
        _ => None,
    };
    let text = match fields {
        Some(fields) => Some(fields.iter().filter_map(|name| field(name)).collect::<Vec<_>>().join("\n")),
        None => field("text"),
    };
    let text = text.filter(|text| !text.is_empty());
    text.ok_or_else(|| ApiError::bad_request(format!("documents[{at}]: neither a text nor an object with a \"text\"")))
}
