//! What the server counts, in the format of Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use latewood::engine::Timings;
use latewood::rerank::Report;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::state::AppState;

/// From 0.1 ms to 26 s, each twice the one before.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 2.0, 19))
}

/// Of queries encoded together, and of positions.
fn counts() -> Histogram {
    Histogram::new([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    /// The path as routes have it, names left open.
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IndexLabels {
    index: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineLabels {
    pipeline: String,
    stage: String,
}

/// Scores of any stage: shares, cosines, logits, BM25.
fn scores() -> Histogram {
    Histogram::new([
        -10.0, -5.0, -2.0, -1.0, -0.5, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 5.0, 10.0, 20.0,
        50.0,
    ])
}

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;
type Counts<L> = Family<L, Histogram, fn() -> Histogram>;
type Scores<L> = Family<L, Histogram, fn() -> Histogram>;

/// All counters. Cheap to clone: clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    request_seconds: Seconds<RouteLabels>,
    stage_seconds: Seconds<StageLabels>,
    pub(crate) in_flight: Gauge,
    pub(crate) encoded_together: Histogram,
    pub(crate) documents_written: Counter,
    pub(crate) commit_seconds: Histogram,
    rerank_lift: Histogram,
    pipeline_seconds: Seconds<PipelineLabels>,
    pipeline_skipped: Family<PipelineLabels, Counter>,
    pipeline_failed: Family<PipelineLabels, Counter>,
    pipeline_candidates: Counts<PipelineLabels>,
    pipeline_kept: Counts<PipelineLabels>,
    pipeline_best: Scores<PipelineLabels>,
    pipeline_median: Scores<PipelineLabels>,
    documents: Family<IndexLabels, Gauge>,
    passages: Family<IndexLabels, Gauge>,
    bytes: Family<IndexLabels, Gauge>,
    waiting: Family<IndexLabels, Gauge>,
    cache_bytes: Gauge<u64, AtomicU64>,
    cache_queries: Gauge<u64, AtomicU64>,
}

/// What is told of one index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexFigures {
    pub(crate) documents: usize,
    pub(crate) passages: usize,
    pub(crate) bytes: u64,
    /// Documents that wait to be written.
    pub(crate) waiting: usize,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            stage_seconds: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            encoded_together: counts(),
            documents_written: Counter::default(),
            commit_seconds: seconds(),
            rerank_lift: counts(),
            pipeline_seconds: Family::new_with_constructor(seconds),
            pipeline_skipped: Family::default(),
            pipeline_failed: Family::default(),
            pipeline_candidates: Family::new_with_constructor(counts),
            pipeline_kept: Family::new_with_constructor(counts),
            pipeline_best: Family::new_with_constructor(scores),
            pipeline_median: Family::new_with_constructor(scores),
            documents: Family::default(),
            passages: Family::default(),
            bytes: Family::default(),
            waiting: Family::default(),
            cache_bytes: Gauge::default(),
            cache_queries: Gauge::default(),
        }
    }

    fn registry(&self) -> Registry {
        let mut all = Registry::with_prefix("latewood");
        let registry = &mut all;
        registry.register("requests", "Requests answered", self.requests.clone());
        let text = "From a request's head to its answer's";
        registry.register_with_unit("request", text, Unit::Seconds, self.request_seconds.clone());
        let text = "Time of the stages of a search: encode, centroids, gather, prune, rescore, refine";
        registry.register_with_unit("stage", text, Unit::Seconds, self.stage_seconds.clone());
        registry.register("requests_in_flight", "Requests that wait or compute", self.in_flight.clone());
        let text = "Queries that were encoded together";
        registry.register("queries_encoded_together", text, self.encoded_together.clone());
        registry.register("documents_written", "Documents added or deleted", self.documents_written.clone());
        let text = "Splitting, encoding and publishing what one commit holds";
        registry.register_with_unit("commit", text, Unit::Seconds, self.commit_seconds.clone());
        let text = "Places by which reranking moved up, on average, the documents that it put first";
        registry.register("rerank_position_lift", text, self.rerank_lift.clone());
        let text = "Time of the stages of a pipeline";
        registry.register_with_unit("pipeline_stage", text, Unit::Seconds, self.pipeline_seconds.clone());
        let text = "How often a stage of a pipeline was left out: for its cost, or because the best was clear or nothing was left";
        registry.register("pipeline_stage_skipped", text, self.pipeline_skipped.clone());
        let text = "How often a stage of a pipeline failed, in part or whole";
        registry.register("pipeline_stage_failed", text, self.pipeline_failed.clone());
        let text = "Passages that a stage of a pipeline was given";
        registry.register("pipeline_stage_candidates", text, self.pipeline_candidates.clone());
        let text = "Passages that a stage of a pipeline let through";
        registry.register("pipeline_stage_kept", text, self.pipeline_kept.clone());
        let text = "The best score that a stage of a pipeline gave";
        registry.register("pipeline_stage_best_score", text, self.pipeline_best.clone());
        let text = "The median of the scores that a stage of a pipeline gave";
        registry.register("pipeline_stage_median_score", text, self.pipeline_median.clone());
        registry.register("index_documents", "Documents in an index", self.documents.clone());
        registry.register("index_passages", "Passages in an index", self.passages.clone());
        registry.register_with_unit("index", "Size of an index and its texts", Unit::Bytes, self.bytes.clone());
        registry.register("index_waiting", "Documents that wait to be written", self.waiting.clone());
        registry.register_with_unit("query_cache", "Queries remembered", Unit::Bytes, self.cache_bytes.clone());
        registry.register("query_cache_queries", "Queries remembered", self.cache_queries.clone());
        all
    }

    /// One search's stages.
    pub(crate) fn search(&self, timings: &Timings) {
        let stages = [
            ("centroids", timings.centroids),
            ("gather", timings.gather),
            ("prune", timings.prune),
            ("rescore", timings.rescore),
            ("refine", timings.refine),
        ];
        stages.into_iter().for_each(|(stage, time)| self.stage(stage, time));
    }

    pub(crate) fn stage(&self, stage: &'static str, time: Duration) {
        self.stage_seconds.get_or_create(&StageLabels { stage }).observe(time.as_secs_f64());
    }

    /// That documents came to the front, in this order, whose places before were `before`.
    pub(crate) fn reranked(&self, before: &[usize]) {
        if before.is_empty() {
            return;
        }
        let lifts = before.iter().enumerate().map(|(now, &before)| before.saturating_sub(now));
        self.rerank_lift.observe(lifts.sum::<usize>() as f64 / before.len() as f64);
    }

    /// What a pipeline did with one query.
    pub(crate) fn pipeline(&self, pipeline: &str, report: &Report) {
        for stage in &report.stages {
            let labels = PipelineLabels { pipeline: pipeline.into(), stage: stage.name.clone() };
            self.pipeline_candidates.get_or_create(&labels).observe(stage.candidates as f64);
            self.pipeline_kept.get_or_create(&labels).observe(stage.kept as f64);
            if stage.failed {
                self.pipeline_failed.get_or_create(&labels).inc();
            }
            match stage.scores {
                Some(scores) => {
                    self.pipeline_seconds.get_or_create(&labels).observe(stage.ms / 1e3);
                    self.pipeline_best.get_or_create(&labels).observe(f64::from(scores.most));
                    self.pipeline_median.get_or_create(&labels).observe(f64::from(scores.median));
                }
                None if !stage.failed => drop(self.pipeline_skipped.get_or_create(&labels).inc()),
                None => {}
            }
        }
        self.rerank_lift.observe(report.mean_lift.max(0.0));
    }

    /// Everything, as text. `indexes` and the cache are told anew each time.
    pub(crate) fn text(&self, indexes: &[(String, IndexFigures)], cache: (usize, usize)) -> String {
        for family in [&self.documents, &self.passages, &self.bytes, &self.waiting] {
            family.clear();
        }
        for (index, figures) in indexes {
            let labels = IndexLabels { index: index.clone() };
            let gauge = |family: &Family<IndexLabels, Gauge>, value: u64| {
                family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            gauge(&self.documents, figures.documents as u64);
            gauge(&self.passages, figures.passages as u64);
            gauge(&self.bytes, figures.bytes);
            gauge(&self.waiting, figures.waiting as u64);
        }
        self.cache_queries.set(cache.0 as u64);
        self.cache_bytes.set(cache.1 as u64);
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut out, &self.registry());
        out
    }
}

/// Counts requests and their time by route.
pub(crate) async fn count(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let metrics = state.metrics().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = known(request.method());
    let start = std::time::Instant::now();
    let response = next.run(request).await;
    metrics.request_seconds.get_or_create(&RouteLabels { route: route.clone() }).observe(start.elapsed().as_secs_f64());
    let labels = RequestLabels { method, route, status: response.status().as_u16() };
    metrics.requests.get_or_create(&labels).inc();
    response
}

/// Clients may invent methods; counters must not grow with them.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
