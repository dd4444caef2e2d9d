//! Spans for a collector of OpenTelemetry's, by OTLP over HTTP.
//!
//! The standard variables say whether and where to (`OTEL_EXPORTER_OTLP_ENDPOINT`), how many and in whose name; the SDK
//! reads them. A thread of the SDK sends finished spans in batches: what it cannot send is lost, and nobody waits for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, TraceContextExt, TracerProvider};
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter as Exporter};
use tracing::subscriber::Interest;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Targets, dynamic_filter_fn};
use tracing_subscriber::layer::Filter;
use tracing_subscriber::registry::LookupSpan;
use ureq::http::HeaderMap;

/// How long the last spans may take at the end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing is said again of what is wrong with the collector.
const QUIET: Duration = Duration::from_secs(600);
/// Bytes of a collector's answer.
const ANSWER: u64 = 1 << 20;

/// What requests and their answers are called in a span, and by OpenTelemetry's conventions.
const NAMES: [(&str, &str); 4] = [
    ("method", "http.request.method"),
    ("path", "url.path"),
    ("route", "http.route"),
    ("status", "http.response.status_code"),
];

/// Spans on their way to a collector.
pub(crate) struct Spans(SdkTracerProvider);

impl Spans {
    /// To the collector that the environment names, if it names one.
    pub(crate) fn from_env() -> anyhow::Result<Option<Self>> {
        let said = |name: &str| std::env::var(name).unwrap_or_default();
        let named = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
            .iter()
            .any(|name| !said(name).is_empty());
        if !named || said("OTEL_SDK_DISABLED").eq_ignore_ascii_case("true") || said("OTEL_TRACES_EXPORTER") == "none" {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().with_http_client(Client::from_env()).build();
        let exporter = exporter.context("OpenTelemetry cannot be set up as the environment says")?;
        let spans = SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(Named(exporter));
        Ok(Some(Self(spans.build())))
    }

    /// Takes the server's spans and what is logged in them.
    pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("latewood"))
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            // The span that a span is in is known without.
            .with_context_activation(false)
            .with_filter(Targets::new().with_target("latewood_server", Level::INFO))
    }

    /// Sends what is left, as far as that goes fast.
    pub(crate) fn finish(self) {
        if let Err(error) = self.0.shutdown_with_timeout(PATIENCE) {
            tracing::warn!("the last spans may be lost: {error}");
        }
    }
}

/// Makes the span of a request a child of the one that its headers name (W3C's `traceparent`).
pub(crate) fn parent(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let parent = TraceContextPropagator::new().extract_with_context(&Default::default(), &HeaderExtractor(headers));
    if parent.span().span_context().is_valid() {
        // It fails where no spans are collected.
        let _ = span.set_parent(parent);
    }
}

/// Lets each thing that the SDK says of itself be said once in a while: it may be wrong every few seconds.
pub(crate) fn seldom<S: Subscriber>() -> impl Filter<S> {
    let said = Mutex::new(HashMap::new());
    let of_sdk = |target: &str| target.starts_with("opentelemetry");
    dynamic_filter_fn(move |metadata, _| {
        if !of_sdk(metadata.target()) {
            return true;
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let before = said.get(&metadata.callsite());
        let due = before.is_none_or(|before| now.duration_since(*before) >= QUIET);
        if due {
            said.insert(metadata.callsite(), now);
        }
        due
    })
    .with_callsite_filter(move |metadata| match of_sdk(metadata.target()) {
        true => Interest::sometimes(),
        false => Interest::always(),
    })
}

/// Whose spans they are, as far as the environment does not say.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = || Resource::builder().with_attribute(version.clone());
    let said = resource().build();
    let name = said.get(&"service.name".into()).map(|name| name.to_string()).unwrap_or_default();
    // The SDK's word for none.
    if name.starts_with("unknown_service") { resource().with_service_name("latewood").build() } else { said }
}

/// Sends spans under the names that OpenTelemetry has for what they tell.
#[derive(Debug)]
struct Named(SpanExporter);

impl Exporter for Named {
    fn export(&self, mut batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        batch.iter_mut().filter(|span| span.name == "request").for_each(name_request);
        self.0.export(batch)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn name_request(span: &mut SpanData) {
    for attribute in &mut span.attributes {
        if let Some((_, name)) = NAMES.iter().find(|(own, _)| attribute.key.as_str() == *own) {
            attribute.key = (*name).into();
        }
    }
    let value =
        |name: &str| span.attributes.iter().find(|found| found.key.as_str() == name).map(|found| found.value.as_str());
    let (method, route) = (value("http.request.method"), value("http.route"));
    span.name = method.into_iter().chain(route).collect::<Vec<_>>().join(" ").into();
    span.span_kind = SpanKind::Server;
}

/// The way to the collector. It blocks the thread, which is the SDK's own.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn from_env() -> Self {
        // The exporter leaves the time to its client.
        let said = |name: &str| std::env::var(name).ok()?.parse().ok().map(Duration::from_millis);
        let time = said("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| said("OTEL_EXPORTER_OTLP_TIMEOUT"));
        let time = time.unwrap_or(opentelemetry_otlp::OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT);
        let config =
            ureq::Agent::config_builder().timeout_global(Some(time)).max_redirects(0).http_status_as_error(false);
        Self(config.build().into())
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let collector = request.uri().clone();
        let sent = self.0.run(request.map(Vec::from)).and_then(|response| {
            let (head, mut body) = response.into_parts();
            let body = body.with_config().limit(ANSWER).read_to_vec()?;
            Ok(Response::from_parts(head, Bytes::from(body)))
        });
        // The SDK's own words are only that it failed.
        sent.map_err(|error| {
            tracing::warn!(target: "opentelemetry", "spans cannot be sent to {collector}: {error}");
            error.into()
        })
    }
}
