//! The handlers.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, Uri};
use latewood::engine::{DocId, QueryEmbeddings};
use latewood::{Answer, Hit, Passage, SearchOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::state::AppState;

/// Passages that one search may ask for.
const MAX_K: usize = 1000;

pub(crate) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// What is indexed.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    version: &'static str,
    model: Option<String>,
    dim: usize,
    generation: u64,
    files: usize,
    passages: usize,
    tokens: usize,
    index_bytes: u64,
    backend: String,
}

pub(crate) async fn status(State(state): State<AppState>) -> Result<Json<Status>, ApiError> {
    let read = |reader: &latewood::Reader| {
        let info = reader.info();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            dim: info.dim,
            generation: info.generation,
            files: reader.catalog().files.len(),
            passages: info.docs(),
            tokens: info.tokens(),
            index_bytes: info.bytes() + reader.text_bytes(),
            backend: reader.backend(),
            model: info.model,
        })
    };
    state.read(read).await.map(Json)
}

/// A search: by text or by token embeddings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchRequest {
    query: Option<String>,
    /// `[q][dim]`, by the index's model; a row's norm is its weight.
    embeddings: Option<Vec<Vec<f32>>>,
    k: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SearchResponse {
    hits: Vec<Hit>,
    candidates: usize,
    timings_ms: Timings,
}

#[derive(Debug, Serialize)]
struct Timings {
    encode: f64,
    centroids: f64,
    gather: f64,
    prune: f64,
    rescore: f64,
}

pub(crate) async fn search(
    State(state): State<AppState>,
    body: Result<Json<SearchRequest>, JsonRejection>,
) -> Result<Json<SearchResponse>, ApiError> {
    let Json(request) = body?;
    let k = request.k.unwrap_or(10);
    if !(1..=MAX_K).contains(&k) {
        return Err(ApiError::bad_request(format!("k is {k}: it must be between 1 and {MAX_K}")));
    }
    let options = SearchOptions::new(k);
    let answer = match (request.query, request.embeddings) {
        (Some(query), None) => state.read(move |reader| Ok(reader.search(&query, &options)?)).await?,
        (None, Some(rows)) => {
            let query = embeddings(&rows)?;
            state.read(move |reader| Ok(reader.search_embeddings(&[query], &options)?.remove(0))).await?
        }
        _ => return Err(ApiError::bad_request("give either \"query\" (text) or \"embeddings\" (rows of numbers)")),
    };
    Ok(Json(response(answer)))
}

/// Rows of one length as a query.
fn embeddings(rows: &[Vec<f32>]) -> Result<QueryEmbeddings, ApiError> {
    let dim = rows.first().map_or(0, Vec::len);
    if let Some(at) = rows.iter().position(|row| row.len() != dim) {
        let text = format!("embeddings: row {at} has {} values and row 0 has {dim}", rows[at].len());
        return Err(ApiError::bad_request(text));
    }
    if rows.is_empty() {
        return Err(ApiError::bad_request("embeddings: there is no row"));
    }
    Ok(QueryEmbeddings::new(rows.concat(), dim)?)
}

fn response(answer: Answer) -> SearchResponse {
    let ms = |d: std::time::Duration| d.as_secs_f64() * 1e3;
    let timings_ms = Timings {
        encode: ms(answer.encode),
        centroids: ms(answer.search.centroids),
        gather: ms(answer.search.gather),
        prune: ms(answer.search.prune),
        rescore: ms(answer.search.rescore),
    };
    SearchResponse { hits: answer.hits, candidates: answer.candidates, timings_ms }
}

pub(crate) async fn document(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Passage>, ApiError> {
    let Path(id) = id.map_err(|e| ApiError::bad_request(e.body_text()))?;
    let number = id.parse().map_err(|_| ApiError::bad_request(format!("document id {id:?} is not a whole number")))?;
    let passage = state.read(move |reader| Ok(reader.passage(DocId(number))?)).await?;
    passage.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no document {id}")))
}

pub(crate) async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
}

pub(crate) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let text = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
}
