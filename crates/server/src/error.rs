//! Errors as clients see them: a status, a stable code to program against, and a message to read.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use latewood::engine;
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds after which a client that was turned away may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Bytes of a message.
const MAX_MESSAGE: usize = 600;

/// `{"error": {"code", "message"}}` with a status.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// Stable: what a program may rely on. The crate's documentation lists them.
    #[schema(example = "bad_request")]
    code: &'static str,
    /// For people.
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        // What a client sent is repeated to it as far as it helps.
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            message.push_str("...");
        }
        Self { status, code, message }
    }

    /// The request does not say what it must.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// What is there is in the way.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// Too much is under way.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", message)
    }

    /// More than the server takes.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
    }

    /// Not the client's fault.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    }

    /// The server is going down.
    pub(crate) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the server is stopping")
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }
}

impl From<latewood::Error> for ApiError {
    fn from(error: latewood::Error) -> Self {
        use latewood::Error;
        let message = error.to_string();
        match error {
            Error::EmptyQuery => Self::new(StatusCode::BAD_REQUEST, "empty_query", message),
            Error::QueryTooLong { .. } | Error::Rerank(latewood::rerank::Error::QueryTooLong { .. }) => {
                Self::new(StatusCode::BAD_REQUEST, "query_too_long", message)
            }
            Error::BadDocument { .. } | Error::BadFilter { .. } | Error::NeedsWords => Self::bad_request(message),
            Error::NoDocuments { .. } | Error::NotAnIndex { .. } | Error::NoKeywords { .. } => Self::conflict(message),
            Error::Rerank(latewood::rerank::Error::Stopped) => engine::Error::Cancelled.into(),
            Error::Engine(error) => error.into(),
            error if error.is_no_space() => Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", message),
            _ => Self::internal(&message),
        }
    }
}

impl From<engine::Error> for ApiError {
    fn from(error: engine::Error) -> Self {
        use engine::Error;
        let (status, code) = match &error {
            Error::DimMismatch { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "dimension_mismatch"),
            Error::NoRows
            | Error::Ragged { .. }
            | Error::NotFinite { .. }
            | Error::NotUnit { .. }
            | Error::TooManyRows { .. }
            | Error::TooHeavy { .. }
            | Error::UnsupportedDim { .. }
            | Error::BadParameter { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
            Error::Cancelled => (StatusCode::CONFLICT, "cancelled"),
            Error::IndexExists { .. } => (StatusCode::CONFLICT, "conflict"),
            Error::Locked { .. } => (StatusCode::CONFLICT, "locked"),
            error if error.is_no_space() => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // Why an index is not served was logged when that was found out.
        if self.status.is_server_error() && self.code != "index_unavailable" {
            tracing::error!(code = self.code, "{}", self.message);
        }
        let busy = matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let body = ErrorBody { error: ErrorDetail { code: self.code, message: self.message } };
        let mut response = (self.status, Json(body)).into_response();
        if busy {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
