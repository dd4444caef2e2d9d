//! What keeps one request from hurting the others: a limit to how many there are, a time, and an end to panics.

use std::any::Any;
use std::time::Instant;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use tower_http::request_id::RequestId;
use tracing::Instrument;

use crate::error::ApiError;
use crate::state::AppState;

/// Bytes of a body that is small whoever sends it.
const SMALL_BODY: usize = 64 << 10;

/// Turns requests away when too many are under way: an endless queue would help nobody.
pub(crate) async fn within_limit(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let Ok(_permit) = state.in_flight().clone().try_acquire_owned() else {
        let most = state.limits().concurrent_requests;
        return ApiError::busy(format!("{most} requests are under way: try again in a moment")).into_response();
    };
    let in_flight = Counted::new(&state);
    let response = next.run(request).await;
    drop(in_flight);
    response
}

/// A request under way, until it is dropped: a client that goes away ends it at any point.
struct Counted(AppState);

impl Counted {
    fn new(state: &AppState) -> Self {
        state.metrics().in_flight.inc();
        Self(state.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics().in_flight.dec();
    }
}

/// Refuses what a page of another site makes a browser ask: requests to another host (a page may let its name point here,
/// and would then be taken for one of ours: DNS rebinding), and requests of a page that is not ours and not allowed to.
pub(crate) async fn known_host(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match unknown(&state, request.headers()) {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    }
}

fn unknown(state: &AppState, headers: &HeaderMap) -> Option<ApiError> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = header(header::HOST).unwrap_or_default();
    let known = |hosts: &[String]| hosts.iter().any(|known| known.eq_ignore_ascii_case(without_port(host)));
    if state.hosts().is_some_and(|hosts| !known(hosts)) {
        let text = format!("this server is not known as {host:?}");
        return Some(ApiError::new(StatusCode::FORBIDDEN, "unknown_host", text));
    }
    let origin = header(header::ORIGIN)?;
    let own = origin.split_once("://").is_some_and(|(_, name)| name.eq_ignore_ascii_case(host));
    let allowed = state.allowed_origins().iter().any(|allowed| allowed == "*" || allowed == origin);
    (!own && !allowed).then(|| {
        let text = format!("pages of {origin:?} may not ask this server: allow it with --allow-origin");
        ApiError::new(StatusCode::FORBIDDEN, "unknown_origin", text)
    })
}

/// A host's name; an address in brackets has the port behind them.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Reads the whole body before a request takes its place: a client that is slow with it keeps nobody out. Large bodies
/// share a budget of memory.
pub(crate) async fn whole_body(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let limits = state.limits();
    let said = request.body().size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let bytes = said.unwrap_or(limits.body_bytes);
    if bytes > limits.body_bytes {
        return ApiError::too_large(format!("the body has {bytes} bytes, and {} is the most", limits.body_bytes))
            .into_response();
    }
    let permit = if bytes > SMALL_BODY {
        // KiB of the limit, which is below 4 TiB.
        match state.bodies().clone().try_acquire_many_owned((bytes >> 10) as u32) {
            Ok(permit) => Some(permit),
            Err(_) => {
                return ApiError::busy("too many large bodies are under way: try again in a moment").into_response();
            }
        }
    } else {
        None
    };
    let (head, body) = request.into_parts();
    let whole = match tokio::time::timeout(limits.request_time, to_bytes(body, limits.body_bytes)).await {
        Ok(Ok(whole)) => whole,
        Ok(Err(error)) => return unread(&error, limits.body_bytes).into_response(),
        Err(_) => {
            let text = format!("the body did not come within {} s", limits.request_time.as_secs_f32());
            return ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", text).into_response();
        }
    };
    let response = next.run(Request::from_parts(head, Body::from(whole))).await;
    drop(permit);
    response
}

fn unread(error: &axum::Error, most: usize) -> ApiError {
    let too_large = std::error::Error::source(error).is_some_and(|cause| cause.is::<LengthLimitError>());
    match too_large {
        true => ApiError::too_large(format!("the body has more than {most} bytes, which is the most")),
        false => ApiError::bad_request(format!("the body cannot be read: {error}")),
    }
}

/// Ends requests that take too long.
pub(crate) async fn within_time(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let limit = state.limits().request_time;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = format!("the request took longer than {} s", limit.as_secs_f32());
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", text).into_response()
        }
    }
}

/// The answer to a request that made a handler panic.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal(&"the request made the server panic: this is a bug").into_response()
}

/// Logs each request, with its id.
pub(crate) async fn traced(request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).unwrap_or("");
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    async move {
        let start = Instant::now();
        let response = next.run(request).await;
        tracing::info!(status = response.status().as_u16(), ms = start.elapsed().as_secs_f64() * 1e3);
        response
    }
    .instrument(span)
    .await
}
