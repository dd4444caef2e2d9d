//! The routes, and what every request goes through.

mod description;
pub(crate) mod documents;
mod embed;
pub(crate) mod feedback;
pub(crate) mod indexes;
mod ops;
mod page;
pub(crate) mod pipelines;
mod rerank;
mod search;
mod tasks;

use std::ops::{Range, RangeInclusive};

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use serde::Serialize;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;
use crate::state::AppState;
use crate::{auth, guard, mcp, metrics};

pub(crate) use search::{DEFAULT_INDEX, Found, SearchRequest, SearchResponse, run as search};

const INDEXES: &str = "Indexes";
const DOCUMENTS: &str = "Documents";
const SEARCH: &str = "Search";
const RERANK: &str = "Rerank";
const EMBED: &str = "Encode";
const TASKS: &str = "Tasks";
const OPERATIONS: &str = "Operations";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Lines of a text, from 1.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Lines {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl From<RangeInclusive<u32>> for Lines {
    fn from(lines: RangeInclusive<u32>) -> Self {
        Self { first: *lines.start(), last: *lines.end() }
    }
}

/// Bytes of a text: the first, and one past the last.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl From<Range<usize>> for Span {
    fn from(span: Range<usize>) -> Self {
        Self { start: span.start, end: span.end }
    }
}

fn check_bytes(texts: &[String], most: usize) -> Result<(), ApiError> {
    match texts.iter().map(String::len).sum::<usize>() {
        bytes if bytes > most => {
            Err(ApiError::too_large(format!("{bytes} bytes of text, and a request may have {most}")))
        }
        _ => Ok(()),
    }
}

fn read_path<T>(path: Result<Path<T>, PathRejection>) -> Result<T, ApiError> {
    path.map(|Path(path)| path).map_err(|e| ApiError::bad_request(e.body_text()))
}

fn reading() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(search::search))
        .routes(routes!(search::search_default))
        .routes(routes!(feedback::give))
        .routes(routes!(rerank::rerank))
        .routes(routes!(embed::embeddings))
        .routes(routes!(embed::embed_all))
        .routes(routes!(embed::tokenize))
        .routes(routes!(rerank::rerank_v1))
        .routes(routes!(rerank::rerank_tei))
}

/// Looking, which is cheap and must work where nothing else does.
fn looking() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(indexes::list))
        .routes(routes!(indexes::get))
        .routes(routes!(documents::get))
        .routes(routes!(pipelines::list))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::get))
        .routes(routes!(tasks::events))
        .routes(routes!(embed::info))
        .routes(routes!(embed::models))
        .routes(routes!(ops::metrics))
}

fn writing() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(indexes::create))
        .routes(routes!(indexes::delete))
        .routes(routes!(indexes::sync))
        .routes(routes!(documents::add))
        .routes(routes!(documents::delete_many))
        .routes(routes!(documents::delete))
        .routes(routes!(tasks::cancel))
}

fn open() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(ops::health))
        .routes(routes!(ops::ready))
        .route("/health", get(ops::health))
        // For people.
        .route("/", get(page::index))
}

/// What all routes are.
pub(crate) fn openapi() -> OpenApi {
    let all = [reading(), looking(), writing(), open()].into_iter();
    description::complete(all.fold(OpenApiRouter::new(), OpenApiRouter::merge).into_openapi())
}

/// All routes over `state`.
pub(crate) fn all(state: &AppState) -> Router {
    let limited = |router: OpenApiRouter<AppState>| {
        router
            .layer(from_fn_with_state(state.clone(), guard::within_time))
            .layer(from_fn_with_state(state.clone(), guard::within_limit))
            .layer(from_fn_with_state(state.clone(), guard::whole_body))
    };
    let may_read = from_fn_with_state(state.clone(), auth::may_read);
    let may_write = from_fn_with_state(state.clone(), auth::may_write);
    let (router, _) = OpenApiRouter::new()
        .merge(limited(reading().route_service("/mcp", mcp::service(state))).layer(may_read.clone()))
        .merge(looking().layer(may_read))
        .merge(writing().layer(from_fn_with_state(state.clone(), guard::whole_body)).layer(may_write))
        .merge(open())
        .split_for_parts();
    let router = router
        .fallback(ops::unknown_path)
        // A whole body was read within the limit.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(ops::wrong_method))
        .layer(from_fn_with_state(state.clone(), guard::known_host))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .layer(from_fn_with_state(state.clone(), metrics::count))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(from_fn_with_state(state.clone(), guard::traced))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid));
    let router = match cors(state.allowed_origins()) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.with_state(state.clone())
}

/// Which other sites' pages may ask; none unless the server is told.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let allowed = match origins {
        [] => return None,
        all if all.iter().any(|origin| origin == "*") => AllowOrigin::any(),
        some => AllowOrigin::list(some.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let methods = [Method::GET, Method::POST, Method::DELETE];
    let headers = [header::AUTHORIZATION, header::CONTENT_TYPE];
    Some(CorsLayer::new().allow_origin(allowed).allow_methods(methods).allow_headers(headers))
}
