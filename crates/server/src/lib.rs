//! The HTTP API: a small axum router over one text index.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /healthz` | `{"status": "ok"}` |
//! | `GET /v1/status` | what is indexed, and by which model |
//! | `POST /v1/search` | `{"query": TEXT}` or `{"embeddings": [[f32]]}`, and `"k"`: the best passages |
//! | `GET /v1/documents/{id}` | one passage |
//!
//! Errors are `{"error": {"code", "message"}}` ([`error`]). Requests see the newest commit, at most a second late.
//! [`router`] can be nested in another application; [`serve`] runs it alone.

mod error;
mod routes;
mod state;

use std::future::Future;
use std::io;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;

pub use error::ApiError;
pub use state::AppState;

/// The routes over `state`.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/healthz", get(routes::health))
        .route("/v1/status", get(routes::status))
        .route("/v1/search", post(routes::search))
        .route("/v1/documents/{id}", get(routes::document))
        .fallback(routes::unknown_path)
        .method_not_allowed_fallback(routes::wrong_method)
        .with_state(state)
}

/// Serves [`router`] on `listener` until `stop` ends, then finishes the requests under way.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(state)).with_graceful_shutdown(stop).await
}
