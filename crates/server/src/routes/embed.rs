//! Token embeddings and tokens, in the shapes of OpenAI's and of text-embeddings-inference's interface.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use latewood::encoder::{EncodedDocument, EncodedQuery, Encoder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};

use super::description::texts;
use super::{EMBED, check_bytes};
use crate::error::{ApiError, ErrorBody};
use crate::json::{Body, or_default, whole};
use crate::matrix;
use crate::state::AppState;

/// One text, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts is expected")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

fn any_texts() -> Schema {
    texts(Object::with_type(Type::String))
}

fn texts_of_words() -> Schema {
    texts(ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"\S")).build())
}

impl Texts {
    fn read(self, state: &AppState) -> Result<Vec<String>, ApiError> {
        let (texts, most) = (self.into_vec(), state.limits().texts);
        match texts.len() {
            0 => Err(ApiError::bad_request("there is no text")),
            count if count > most => Err(ApiError::too_large(format!("{count} texts, and a request may have {most}"))),
            _ => check_bytes(&texts, state.limits().text_bytes).map(|()| texts),
        }
    }

    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Which of the two a text is: ColBERT encodes them differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum InputType {
    Query,
    Document,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

/// Texts to be encoded, as in OpenAI's interface, and which of the two they are.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbeddingsRequest {
    #[schema(schema_with = texts_of_words)]
    input: Texts,
    /// `query` or `document`. A late-interaction model has a vector for each token and none for the text: that it is
    /// wanted so must be said.
    #[schema(value_type = InputType)]
    input_type: Option<InputType>,
    /// Rows of numbers, or their bytes in base64: little-endian f32, `shape` beside them.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(nullable)]
    encoding_format: Encoding,
    /// Values a row; the model's own, if it is said.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = 1)]
    dimensions: Option<usize>,
    /// Accepted and ignored: the server has one model.
    #[allow(dead_code, reason = "a part of the interface")]
    model: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingsResponse {
    object: &'static str,
    data: Vec<EmbeddingObject>,
    model: String,
    usage: EmbeddingUsage,
}

#[derive(Debug, Serialize, ToSchema)]
struct EmbeddingObject {
    object: &'static str,
    index: usize,
    embedding: TokenRows,
    /// Rows and values a row.
    #[schema(value_type = Vec<u32>, min_items = 2, max_items = 2)]
    shape: [usize; 2],
}

/// `[n, dim]`, a row for each token that the model keeps: numbers, or base64 as OpenAI's clients read it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum TokenRows {
    Rows(Vec<Vec<f32>>),
    Base64(String),
}

#[derive(Debug, Serialize, ToSchema)]
struct EmbeddingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Rows `[n, dim]`, and the tokens of the text.
struct Encoded {
    values: Vec<f32>,
    tokens: usize,
}

/// Texts encoded together.
const TOGETHER: usize = 64;

fn encode(
    encoder: &dyn Encoder,
    side: InputType,
    texts: &[String],
    stopped: &dyn Fn() -> bool,
) -> Result<Vec<Encoded>, ApiError> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    if let Some(at) = texts.iter().position(|text| text.trim().is_empty()) {
        return Err(ApiError::bad_request(format!("text {at} is empty")));
    }
    let mut encoded = Vec::with_capacity(texts.len());
    for texts in texts.chunks(TOGETHER) {
        if stopped() {
            return Err(latewood::engine::Error::Cancelled.into());
        }
        encoded.extend(encode_some(encoder, side, texts)?);
    }
    Ok(encoded)
}

fn encode_some(encoder: &dyn Encoder, side: InputType, texts: &[&str]) -> Result<Vec<Encoded>, ApiError> {
    let query = |q: EncodedQuery| Encoded { values: q.embeddings.values().to_vec(), tokens: q.tokens };
    let document = |d: EncodedDocument| Encoded { values: d.embeddings.into_values(), tokens: d.tokens };
    let failed = |e| ApiError::from(latewood::Error::from(e));
    match side {
        InputType::Query => {
            let encoded = encoder.encode_queries(texts).map_err(failed)?;
            if let Some(long) = encoded.iter().find(|query| query.truncated) {
                let (tokens, max) = (long.tokens, encoder.max_query_tokens());
                return Err(latewood::Error::QueryTooLong { tokens, max }.into());
            }
            Ok(encoded.into_iter().map(query).collect())
        }
        InputType::Document => Ok(encoder.encode_documents(texts).map_err(failed)?.into_iter().map(document).collect()),
    }
}

/// Encode texts into token embeddings
#[utoipa::path(post, path = "/v1/embeddings", tag = EMBED, request_body = EmbeddingsRequest, responses(
    (status = 200, body = EmbeddingsResponse),
    (status = 400, body = ErrorBody, description = "`input_type` is missing, for example")
))]
pub(crate) async fn embeddings(
    State(state): State<AppState>,
    body: Body<EmbeddingsRequest>,
) -> Result<Json<EmbeddingsResponse>, ApiError> {
    let Body(request) = body;
    let Some(side) = request.input_type else {
        return Err(ApiError::bad_request(
            "this model gives a vector for each token, not one for the text: say that you want them with \
             \"input_type\": \"query\" or \"document\"",
        ));
    };
    let texts = request.input.read(&state)?;
    let encoder = state.encoder().clone();
    let (dim, packed) = (encoder.dim(), request.encoding_format == Encoding::Base64);
    if let Some(dimensions) = request.dimensions.filter(|dimensions| *dimensions != dim) {
        let text = format!("dimensions is {dimensions}, and this server's model gives {dim}");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "dimension_mismatch", text));
    }
    let encoded = state.encode(texts.len(), move |stopped| encode(&*encoder, side, &texts, stopped)).await?;
    let tokens = encoded.iter().map(|encoded| encoded.tokens).sum();
    let object = |(index, encoded): (usize, Encoded)| {
        let shape = [encoded.values.len() / dim, dim];
        let embedding = match packed {
            true => TokenRows::Base64(matrix::to_base64(&encoded.values)),
            false => TokenRows::Rows(rows(&encoded.values, dim)),
        };
        EmbeddingObject { object: "embedding", index, embedding, shape }
    };
    Ok(Json(EmbeddingsResponse {
        object: "list",
        data: encoded.into_iter().enumerate().map(object).collect(),
        model: state.encoder().model_id().as_str().into(),
        usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
    }))
}

fn rows(values: &[f32], dim: usize) -> Vec<Vec<f32>> {
    values.chunks_exact(dim).map(<[f32]>::to_vec).collect()
}

/// Texts to be encoded, as in text-embeddings-inference.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbedAllRequest {
    #[schema(schema_with = texts_of_words)]
    inputs: Texts,
    /// `query` or `document`; documents unless said.
    input_type: Option<InputType>,
}

/// Encode texts into token embeddings, as text-embeddings-inference does
#[utoipa::path(post, path = "/embed_all", tag = EMBED, request_body = EmbedAllRequest, responses(
    (status = 200, body = Vec<Vec<Vec<f32>>>, description = "For each text its rows")
))]
pub(crate) async fn embed_all(
    State(state): State<AppState>,
    body: Body<EmbedAllRequest>,
) -> Result<Json<Vec<Vec<Vec<f32>>>>, ApiError> {
    let Body(EmbedAllRequest { inputs, input_type }) = body;
    let (texts, encoder) = (inputs.read(&state)?, state.encoder().clone());
    let dim = encoder.dim();
    let side = input_type.unwrap_or(InputType::Document);
    let encoded = state.encode(texts.len(), move |stopped| encode(&*encoder, side, &texts, stopped)).await?;
    Ok(Json(encoded.iter().map(|encoded| rows(&encoded.values, dim)).collect()))
}

/// Texts to be taken apart.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TokenizeRequest {
    #[schema(schema_with = any_texts)]
    inputs: Texts,
    /// Whether to list special tokens, too.
    #[schema(default = true)]
    add_special_tokens: Option<bool>,
}

/// A token, as text-embeddings-inference tells of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Token {
    id: u32,
    text: String,
    special: bool,
    /// First byte of the text; null for special tokens.
    start: Option<usize>,
    /// One past the last byte.
    stop: Option<usize>,
}

/// Take texts apart into tokens
#[utoipa::path(post, path = "/tokenize", tag = EMBED, request_body = TokenizeRequest, responses(
    (status = 200, body = Vec<Vec<Token>>, description = "For each text its tokens")
))]
pub(crate) async fn tokenize(
    State(state): State<AppState>,
    body: Body<TokenizeRequest>,
) -> Result<Json<Vec<Vec<Token>>>, ApiError> {
    let Body(TokenizeRequest { inputs, add_special_tokens }) = body;
    let (texts, encoder) = (inputs.read(&state)?, state.encoder().clone());
    let all = state.compute(move || {
        let tokenizer =
            encoder.tokenizer().ok_or_else(|| ApiError::not_found("the model tells nothing of its tokens"))?;
        let special = |ids: &[u32]| -> Vec<Token> {
            let ids = if add_special_tokens.unwrap_or(true) { ids } else { &[] };
            let token = |&id| Token {
                id,
                text: tokenizer.piece(id).unwrap_or_default(),
                special: true,
                start: None,
                stop: None,
            };
            ids.iter().map(token).collect()
        };
        let (opening, closing) = tokenizer.special_ids();
        let one = |text: &String| {
            let pieces = tokenizer.pieces(text).map_err(|e| ApiError::from(latewood::Error::from(e)))?;
            let piece = |(id, place): (u32, std::ops::Range<usize>)| Token {
                id,
                text: text[place.clone()].into(),
                special: false,
                start: Some(place.start),
                stop: Some(place.end),
            };
            let mut tokens = special(opening);
            tokens.extend(pieces.into_iter().map(piece));
            tokens.extend(special(closing));
            Ok(tokens)
        };
        texts.iter().map(one).collect::<Result<Vec<_>, ApiError>>()
    });
    all.await.map(Json)
}

/// The models, as OpenAI's interface lists them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Models {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

/// List the one model that there is
#[utoipa::path(get, path = "/v1/models", operation_id = "list_models", tag = EMBED, responses((status = 200, body = Models)))]
pub(crate) async fn models(State(state): State<AppState>) -> Json<Models> {
    let id = state.encoder().model_id().as_str().into();
    Json(Models { object: "list", data: vec![Model { id, object: "model", created: 0, owned_by: "latewood" }] })
}

/// The model and the limits, as text-embeddings-inference tells of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Info {
    model_id: String,
    /// Values a token embedding.
    dim: usize,
    max_query_tokens: usize,
    /// Tokens of a document's passage.
    max_input_length: usize,
    max_client_batch_size: usize,
    max_concurrent_requests: usize,
    version: &'static str,
    /// Where it computes.
    device: String,
    uptime_seconds: u64,
}

/// Say which model there is, and how much the server takes
#[utoipa::path(get, path = "/info", tag = EMBED, responses((status = 200, body = Info)))]
pub(crate) async fn info(State(state): State<AppState>) -> Json<Info> {
    let (encoder, limits) = (state.encoder(), state.limits());
    Json(Info {
        model_id: encoder.model_id().as_str().into(),
        dim: encoder.dim(),
        max_query_tokens: encoder.max_query_tokens(),
        max_input_length: encoder.max_document_tokens(),
        max_client_batch_size: limits.texts,
        max_concurrent_requests: limits.concurrent_requests,
        version: env!("CARGO_PKG_VERSION"),
        device: state.backend(),
        uptime_seconds: state.uptime().as_secs(),
    })
}
