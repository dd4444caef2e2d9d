//! Documents: added, fetched, deleted.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use latewood::encoder::Encoder;
use latewood::engine::{DocId, TokenEmbeddings};
use latewood::ingest::Kind;
use latewood::{Content, NewDocument};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::description::metadata;
use super::tasks::{WaitQuery, answer};
use super::{DOCUMENTS, Lines, Span, read_path};
use crate::error::{ApiError, ErrorBody};
use crate::json::{Body, or_default};
use crate::matrix::Matrix;
use crate::served::Change;
use crate::state::AppState;
use crate::tasks::{TaskKind, TaskState};

/// Documents to be added, each in place of one of the same id.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddRequest {
    #[schema(min_items = 1)]
    documents: Vec<DocumentInput>,
}

/// A document: its text, or its token embeddings.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DocumentInput {
    /// The caller's key.
    #[schema(
        min_length = 1,
        max_length = 512,
        pattern = r"^(?!(.*/)?\.{1,2}(/|$))[^\x00-\x1f\x7f-\x9f]+$",
        example = "kiln-1"
    )]
    id: String,
    /// Its title, if it is not in the text.
    title: Option<String>,
    /// What is searched, split into passages; beside embeddings, what is shown.
    #[schema(example = "A kiln fires stoneware at 1280 degrees.")]
    text: Option<String>,
    /// How the text is to be split.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(nullable)]
    format: Format,
    /// Unit rows of the index's model, in place of encoding the text.
    embeddings: Option<Matrix>,
    /// What filters may ask for: numbers, strings, true, false, null, or lists of them.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(schema_with = metadata)]
    metadata: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Text,
    Markdown,
    Html,
}

impl From<Format> for Kind {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::PlainText,
            Format::Markdown => Self::Markdown,
            Format::Html => Self::Html,
        }
    }
}

impl DocumentInput {
    fn read(self) -> Result<NewDocument, ApiError> {
        let Self { id, title, text, format, embeddings, metadata } = self;
        let content = match (embeddings, text) {
            (None, Some(text)) => Content::Text { text, kind: format.into() },
            (Some(Matrix { values, dim }), text) => {
                let rows = TokenEmbeddings::new(values, dim).map_err(|e| {
                    let error = ApiError::from(e);
                    ApiError::bad_request(format!("document {id:?}: embeddings: {}", error.message()))
                })?;
                Content::Embeddings { rows, text: text.unwrap_or_default() }
            }
            (None, None) => {
                return Err(ApiError::bad_request(format!("document {id:?}: give its text or its embeddings")));
            }
        };
        Ok(NewDocument { id, title, content, metadata })
    }
}

/// Documents to be deleted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteRequest {
    /// Ids of documents; those that are not there do no harm.
    #[schema(min_items = 1)]
    ids: Vec<String>,
}

/// A document and its passages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DocumentResponse {
    pub(crate) id: String,
    pub(crate) title: Option<String>,
    /// What it was read as.
    kind: String,
    /// When it was added, or its file modified.
    #[schema(example = "2026-03-01T12:00:00Z")]
    pub(crate) modified: String,
    #[schema(value_type = Object)]
    pub(crate) metadata: Map<String, Value>,
    pub(crate) passages: Vec<PassageResponse>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PassageResponse {
    /// Its number, as long as its document's content does not change.
    id: u64,
    headings: Vec<String>,
    pub(crate) lines: Lines,
    /// The page, slide or sheet it begins on, from 1, where its file has such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) page: Option<u32>,
    span: Span,
    pub(crate) text: String,
}

/// Add documents
///
/// Each takes the place of one of the same id; one whose content is there already is not encoded again. By default the
/// answer comes when all are searchable. More than 512 become searchable part by part.
#[utoipa::path(post, path = "/v1/indexes/{index}/documents", operation_id = "add_documents", tag = DOCUMENTS, params(("index" = String, Path), WaitQuery),
    request_body = AddRequest, responses(
    (status = 200, body = TaskState, description = "All are searchable"),
    (status = 202, body = TaskState, description = "Under way"),
    (status = 409, body = ErrorBody, description = "It is the index of a folder"),
    (status = 422, body = ErrorBody, description = "Embeddings are of another dimension"),
    (status = 429, body = ErrorBody, description = "Too many documents wait to be written")
))]
pub(crate) async fn add(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    wait: Result<Query<WaitQuery>, QueryRejection>,
    body: Body<AddRequest>,
) -> Result<Response, ApiError> {
    let (served, wait) = (state.index(&read_path(path)?)?, WaitQuery::of(wait)?);
    let Body(AddRequest { documents }) = body;
    check_count(documents.len(), state.limits().documents)?;
    let dim = state.encoder().dim();
    let check = move |document: DocumentInput| {
        let document = document.read()?;
        document.check(dim)?;
        Ok(Change::Put(Box::new(document)))
    };
    // All before any is written: of a request that is refused, nothing is.
    let changes = state.look(move || documents.into_iter().map(check).collect()).await?;
    let room = state.limits().waiting_documents;
    let task = served.change(state.tasks(), TaskKind::AddDocuments, changes, wait, room)?;
    answer(&state, &task, wait).await
}

/// Delete documents
#[utoipa::path(post, path = "/v1/indexes/{index}/delete", operation_id = "delete_documents", tag = DOCUMENTS,
    params(("index" = String, Path), WaitQuery), request_body = DeleteRequest, responses(
    (status = 200, body = TaskState, description = "All are gone"),
    (status = 202, body = TaskState, description = "Under way"),
    (status = 409, body = ErrorBody, description = "It is the index of a folder"),
    (status = 429, body = ErrorBody, description = "Too many documents wait to be written")
))]
pub(crate) async fn delete_many(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    wait: Result<Query<WaitQuery>, QueryRejection>,
    body: Body<DeleteRequest>,
) -> Result<Response, ApiError> {
    let Body(DeleteRequest { ids }) = body;
    check_count(ids.len(), state.limits().documents)?;
    delete_ids(&state, &read_path(path)?, ids, WaitQuery::of(wait)?).await
}

/// Delete a document
#[utoipa::path(delete, path = "/v1/indexes/{index}/documents/{document}", operation_id = "delete_document", tag = DOCUMENTS,
    params(("index" = String, Path), ("document" = String, Path), WaitQuery), responses(
    (status = 200, body = TaskState, description = "It is gone; `deleted` is 0 where it was not there"),
    (status = 202, body = TaskState, description = "Under way"),
    (status = 409, body = ErrorBody, description = "It is the index of a folder"),
    (status = 429, body = ErrorBody, description = "Too many documents wait to be written")
))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    path: Result<Path<(String, String)>, PathRejection>,
    wait: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let (index, document) = read_path(path)?;
    delete_ids(&state, &index, vec![document], WaitQuery::of(wait)?).await
}

async fn delete_ids(state: &AppState, index: &str, ids: Vec<String>, wait: bool) -> Result<Response, ApiError> {
    let served = state.index(index)?;
    let changes: Vec<Change> = ids.into_iter().map(Change::Delete).collect();
    let room = state.limits().waiting_documents;
    let task = served.change(state.tasks(), TaskKind::DeleteDocuments, changes, wait, room)?;
    answer(state, &task, wait).await
}

/// Fetch a document and its passages
#[utoipa::path(get, path = "/v1/indexes/{index}/documents/{document}", operation_id = "get_document", tag = DOCUMENTS,
    params(("index" = String, Path), ("document" = String, Path)), responses(
    (status = 200, body = DocumentResponse)
))]
pub(crate) async fn get(
    State(state): State<AppState>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<DocumentResponse>, ApiError> {
    let (index, id) = read_path(path)?;
    read(&state, &index, &id).await.map(Json)
}

/// A document of `index`.
pub(crate) async fn read(state: &AppState, index: &str, id: &str) -> Result<DocumentResponse, ApiError> {
    let (served, id) = (state.index(index)?, id.to_owned());
    let read = move |reader: &latewood::Reader| {
        let file =
            reader.catalog().get(&id).ok_or_else(|| ApiError::not_found(format!("there is no document {id:?}")))?;
        let passages = file.docs().map(|doc| {
            let passage = reader.passage(DocId(doc))?.ok_or_else(|| ApiError::internal(&"a passage is missing"))?;
            let (lines, span) = (passage.lines.into(), passage.span.into());
            let latewood::Passage { headings, page, text, .. } = passage;
            Ok(PassageResponse { id: doc, headings, lines, page, span, text })
        });
        Ok(DocumentResponse {
            id: id.clone(),
            title: file.title.clone(),
            kind: file.kind.clone(),
            modified: file.modified(),
            metadata: file.metadata.clone(),
            passages: passages.collect::<Result<_, ApiError>>()?,
        })
    };
    state.look(move || read(&served.reader()?)).await
}

fn check_count(count: usize, most: usize) -> Result<(), ApiError> {
    match count {
        0 => Err(ApiError::bad_request("there is no document")),
        _ if count > most => Err(ApiError::too_large(format!("{count} documents, and a request may have {most}"))),
        _ => Ok(()),
    }
}
