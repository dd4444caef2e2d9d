//! What keeps one request from hurting the others: a limit to how many there are, a time, and an end to panics.

use std::any::Any;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tower_http::request_id::RequestId;
use tracing::{Instrument, Span, field};

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
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_end_matches('.')
}

/// Reads the whole body before a request takes its place: a client that is slow with it keeps nobody out. Large bodies
/// share a budget of memory.
pub(crate) async fn whole_body(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let limit = state.limits().request_time;
    let (head, body) = request.into_parts();
    let (whole, place) = match tokio::time::timeout(limit, collect(&state, body)).await {
        Ok(Ok(collected)) => collected,
        Ok(Err(error)) => return error.into_response(),
        Err(_) => {
            let text = format!("the body did not come within {} s", limit.as_secs_f32());
            return ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", text).into_response();
        }
    };
    let response = next.run(Request::from_parts(head, Body::from(whole))).await;
    drop(place);
    response
}

/// The bytes of a body, and their place among the large ones.
async fn collect(state: &AppState, mut body: Body) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), ApiError> {
    let most = state.limits().body_bytes;
    let too_large = || ApiError::too_large(format!("the body has more than {most} bytes, which is the most"));
    // KiB of the limit, which is below 4 TiB.
    let reserve = |bytes: usize| {
        let place = state.bodies().clone().try_acquire_many_owned((bytes >> 10) as u32);
        place.map_err(|_| ApiError::busy("too many large bodies are under way: try again in a moment"))
    };
    let said = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let mut place = match said {
        Some(bytes) if bytes > most => return Err(too_large()),
        Some(bytes) if bytes > SMALL_BODY => Some(reserve(bytes)?),
        _ => None,
    };
    let mut whole = Vec::with_capacity(said.unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| ApiError::bad_request(format!("the body cannot be read: {e}")))?;
        let Some(data) = frame.data_ref() else { continue };
        if whole.len() + data.len() > most {
            return Err(too_large());
        }
        // It did not say how large it is, and is not small.
        if place.is_none() && whole.len() + data.len() > SMALL_BODY {
            place = Some(reserve(most)?);
        }
        whole.extend_from_slice(data);
    }
    Ok((whole, place))
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

/// Logs each request, with its id, and gives it a span, in which are those of its stages.
pub(crate) async fn traced(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).unwrap_or("");
    let (method, path) = (request.method(), request.uri().path());
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let span = tracing::info_span!("request", id, %method, path, route, status = field::Empty);
    if let Some(parent) = state.span_parent() {
        parent(&span, request.headers());
    }
    async move {
        let start = Instant::now();
        let response = next.run(request).await;
        Span::current().record("status", response.status().as_u16());
        tracing::info!(ms = start.elapsed().as_secs_f64() * 1e3);
        response
    }
    .instrument(span)
    .await
}
