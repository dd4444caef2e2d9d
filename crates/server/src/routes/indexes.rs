//! Indexes: made, listed, described, deleted, brought up to date with their folders.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use latewood::Source;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tasks::{WaitQuery, answer};
use super::{INDEXES, description, read_path};
use crate::error::{ApiError, ErrorBody};
use crate::json::{Body, or_default, whole};
use crate::served::Served;
use crate::state::AppState;
use crate::tasks::TaskState;

/// An index to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewIndex {
    /// 1 to 64 of a-z, 0-9, - and _, a letter or digit first.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{0,63}$", example = "notes")]
    name: String,
    /// Bits a dimension that tokens are kept in: 1, 2 or 4.
    #[serde(default, deserialize_with = "whole")]
    #[schema(schema_with = description::bits)]
    bits: Option<u32>,
    /// Whether to keep four more bits a dimension, read for the best hits only.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(nullable)]
    fine: bool,
}

/// An index.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndexDescription {
    name: String,
    /// `folder`: the files of a folder. `documents`: documents that clients added.
    #[schema(example = "documents")]
    source: &'static str,
    /// Why it cannot be opened; the other fields are then missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    figures: Option<IndexFigures>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndexFigures {
    /// What encoded its documents.
    model: Option<String>,
    /// Values a token embedding.
    dim: usize,
    /// Bits a dimension.
    bits: u32,
    /// Grows with every commit.
    generation: u64,
    documents: usize,
    passages: usize,
    tokens: usize,
    /// The index and its texts.
    bytes: u64,
    /// Documents that wait to be written.
    waiting: usize,
    /// Where searches run.
    backend: String,
}

/// All indexes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndexList {
    indexes: Vec<IndexDescription>,
}

fn describe(served: &Served) -> Result<IndexDescription, ApiError> {
    let (reader, waiting) = (served.reader()?, served.figures().waiting);
    let info = reader.info();
    let source = match served.index().source() {
        Source::Documents => "documents",
        _ => "folder",
    };
    let figures = IndexFigures {
        dim: info.dim,
        bits: info.bits,
        generation: info.generation,
        documents: reader.catalog().files.len(),
        passages: info.docs(),
        tokens: info.tokens(),
        bytes: info.bytes() + reader.text_bytes(),
        waiting,
        backend: reader.backend(),
        model: info.model,
    };
    Ok(IndexDescription { name: served.name.clone(), source, error: None, figures: Some(figures) })
}

/// List indexes
#[utoipa::path(get, path = "/v1/indexes", operation_id = "list_indexes", tag = INDEXES, responses((status = 200, body = IndexList)))]
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<IndexList>, ApiError> {
    all(&state).await.map(Json)
}

/// All indexes.
pub(crate) async fn all(state: &AppState) -> Result<IndexList, ApiError> {
    let all = state.list();
    let one = |(name, served): (String, Option<Arc<Served>>)| match served {
        Some(served) => describe(&served),
        None => {
            let error = Some("it cannot be opened: the server's log says why");
            Ok(IndexDescription { name, source: "documents", error, figures: None })
        }
    };
    state.look(move || Ok(IndexList { indexes: all.into_iter().map(one).collect::<Result<_, _>>()? })).await
}

/// Make an index of documents
#[utoipa::path(post, path = "/v1/indexes", operation_id = "create_index", tag = INDEXES, request_body = NewIndex, responses(
    (status = 201, body = IndexDescription),
    (status = 409, body = ErrorBody, description = "There is one of that name, or the server has no data folder")
))]
pub(crate) async fn create(State(state): State<AppState>, body: Body<NewIndex>) -> Result<Response, ApiError> {
    let Body(NewIndex { name, bits, fine }) = body;
    let (own, bits) = (state.clone(), bits.unwrap_or(4));
    let made = state.look(move || own.create(&name, bits, fine).and_then(|served| describe(&served))).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// Describe an index
#[utoipa::path(get, path = "/v1/indexes/{index}", operation_id = "get_index", tag = INDEXES, params(("index" = String, Path)), responses(
    (status = 200, body = IndexDescription)
))]
pub(crate) async fn get(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<IndexDescription>, ApiError> {
    let served = state.index(&read_path(path)?)?;
    state.look(move || describe(&served)).await.map(Json)
}

/// Delete an index that was made here
#[utoipa::path(delete, path = "/v1/indexes/{index}", operation_id = "delete_index", tag = INDEXES, params(("index" = String, Path)), responses(
    (status = 204),
    (status = 409, body = ErrorBody, description = "It is the index of a folder")
))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let (name, own) = (read_path(path)?, state.clone());
    state.look(move || own.delete(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Bring an index up to date with its folder
#[utoipa::path(post, path = "/v1/indexes/{index}/sync", operation_id = "sync_index", tag = INDEXES, params(("index" = String, Path), WaitQuery), responses(
    (status = 200, body = TaskState, description = "Done"),
    (status = 202, body = TaskState, description = "Under way"),
    (status = 409, body = ErrorBody, description = "It has no folder, or another process is writing")
))]
pub(crate) async fn sync(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    wait: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let (served, wait) = (state.index(&read_path(path)?)?, WaitQuery::of(wait)?);
    let task = served.sync(state.tasks(), wait)?;
    answer(&state, &task, wait).await
}
