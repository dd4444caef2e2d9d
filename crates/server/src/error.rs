//! Errors as clients see them: a status, a stable code to program against, and a message to read.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use latewood::engine;
use serde_json::json;

/// `{"error": {"code", "message"}}` with a status.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The request does not say what it must.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }
}

impl From<latewood::Error> for ApiError {
    fn from(error: latewood::Error) -> Self {
        let message = error.to_string();
        match error {
            latewood::Error::EmptyQuery => Self::new(StatusCode::BAD_REQUEST, "empty_query", message),
            latewood::Error::QueryTooLong { .. } => Self::new(StatusCode::BAD_REQUEST, "query_too_long", message),
            latewood::Error::Engine(error) => error.into(),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message),
        }
    }
}

impl From<engine::Error> for ApiError {
    fn from(error: engine::Error) -> Self {
        let (status, code) = match error {
            engine::Error::DimMismatch { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "dimension_mismatch"),
            engine::Error::NoRows
            | engine::Error::Ragged { .. }
            | engine::Error::NotFinite { .. }
            | engine::Error::TooManyRows { .. }
            | engine::Error::TooHeavy { .. }
            | engine::Error::UnsupportedDim { .. }
            | engine::Error::BadParameter { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "payload_too_large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
            _ => "bad_request",
        };
        Self::new(rejection.status(), code, rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": { "code": self.code, "message": self.message } }))).into_response()
    }
}
