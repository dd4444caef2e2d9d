//! What operators ask, and what answers where there is nothing.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::OPERATIONS;
use crate::error::{ApiError, ErrorBody};
use crate::state::AppState;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Say that the process is alive
#[utoipa::path(get, path = "/healthz", tag = OPERATIONS, security(()), responses((status = 200, body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Say whether the server takes requests
#[utoipa::path(get, path = "/readyz", tag = OPERATIONS, security(()), responses(
    (status = 200, body = Health),
    (status = 503, body = ErrorBody, description = "It is stopping")
))]
pub(crate) async fn ready(State(state): State<AppState>) -> Result<Json<Health>, ApiError> {
    if state.is_stopping() { Err(ApiError::stopping()) } else { Ok(Json(Health { status: "ok" })) }
}

/// What was counted, for Prometheus
#[utoipa::path(get, path = "/metrics", tag = OPERATIONS, responses(
    (status = 200, content_type = "application/openmetrics-text", body = String)
))]
pub(crate) async fn metrics(State(state): State<AppState>) -> Response {
    let text = state.metrics().text(&state.figures(), (state.encoder().len(), state.encoder().bytes()));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response()
}

pub(crate) async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
}

/// Says in our words that a route does not take a method; which it does take, the header `Allow` says already.
pub(crate) async fn wrong_method(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let text = format!("{path} does not take {method}");
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut response = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text).into_response();
    allow.into_iter().for_each(|allow| _ = response.headers_mut().insert(header::ALLOW, allow));
    response
}
