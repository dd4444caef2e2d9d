//! The HTTP API: an axum router over indexes.
//!
//! [`router`] can be nested in another application; [`serve`] runs it alone. What there is, [`openapi`] tells; the same
//! document is at `/openapi.json`, and to be read at `/docs`; a page to search with is at `/`.
//!
//! # What is where
//!
//! [`AppState`] holds the encoder and the indexes: one of a folder, perhaps, and those that clients make in the data folder.
//! An answer to a write comes when it is searchable, or with a task to follow (`?wait=false`). Searches see the newest
//! commit: one's own at once, another process's at most a second late.
//!
//! # Errors
//!
//! `{"error": {"code", "message"}}`. Codes are stable:
//!
//! | status | codes |
//! | ---: | --- |
//! | 400 | `bad_request`, `empty_query`, `query_too_long` |
//! | 401, 403 | `unauthorized`, `forbidden`, `unknown_host`, `unknown_origin` |
//! | 404, 405 | `not_found`, `method_not_allowed` |
//! | 409 | `conflict`, `locked` (another process is writing), `cancelled` |
//! | 408, 413, 415 | `timeout` (the body did not come), `payload_too_large`, `unsupported_media_type` |
//! | 422 | `dimension_mismatch` |
//! | 429 | `busy`: with `Retry-After` |
//! | 500, 503, 507 | `internal`; `unavailable` (stopping), `timeout`, `index_unavailable` (damaged); `no_space` |

mod auth;
mod coalesce;
mod error;
mod guard;
mod json;
mod matrix;
mod mcp;
mod metrics;
mod routes;
mod serve;
mod served;
mod state;
mod tasks;

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

pub use auth::{KeyError, Keys, Right};
pub use error::ApiError;
pub use mcp::serve_stdio;
pub use serve::serve;
pub use state::{AppState, Limits, ServerOptions};

/// The routes over `state`.
pub fn router(state: AppState) -> Router {
    routes::all(&state).merge(SwaggerUi::new("/docs").url("/openapi.json", openapi()))
}

/// The description of all routes.
pub fn openapi() -> OpenApi {
    routes::openapi()
}
