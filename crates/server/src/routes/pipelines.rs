//! Searches by a pipeline: what is found, put in order by stages.
//!
//! Which pipelines there are whoever runs the server says: they name models to load and addresses to ask, which is not for
//! clients to choose.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use latewood::rerank::{Host, Ranker, Report, StageKind, StageReport};
use latewood::{PipelineAnswer, SearchOptions};
use serde::Serialize;
use serde_json::Value;
use tracing::Instrument;
use utoipa::ToSchema;

use super::SEARCH;
use super::search::Found;
use crate::error::ApiError;
use crate::served::Served;
use crate::state::{AppState, Work};

/// The pipelines of the server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pipelines {
    pipelines: Vec<PipelineInfo>,
}

/// A pipeline, and what it costs.
#[derive(Debug, Serialize, ToSchema)]
struct PipelineInfo {
    /// What searches call it.
    name: String,
    /// As it would be written in a file, without the addresses of models.
    #[schema(value_type = Object)]
    pipeline: Value,
    /// What each stage is going to take for as many passages as the search brings: as measured in this server, or as is usual
    /// before anything was.
    estimate: Vec<StageEstimate>,
}

#[derive(Debug, Serialize, ToSchema)]
struct StageEstimate {
    stage: String,
    candidates: usize,
    ms: f64,
    /// To a language model.
    requests: usize,
    /// Whether the pipeline's latency budget leaves it out.
    dropped: bool,
}

/// What a pipeline did with one query.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PipelineReport {
    /// Passages that the search brought.
    retrieved: usize,
    /// Milliseconds that it took, encoding the query among them.
    retrieve_ms: f64,
    /// In the order of the pipeline; those left out are here too, and say why.
    stages: Vec<StageFigures>,
    /// Of the passages that ended up on top, the first ten at most, the mean of how many places each rose from where it came;
    /// negative if they fell.
    mean_lift: f64,
    /// How many of them were not among as many before.
    newcomers: usize,
}

/// What a stage did.
#[derive(Debug, Serialize, ToSchema)]
struct StageFigures {
    name: String,
    /// Passages that it was given.
    candidates: usize,
    /// Those that it let through.
    kept: usize,
    /// Passages whose score was known from before.
    cached: usize,
    ms: f64,
    /// Of those kept, how many it moved to another place.
    moved: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<ScoreFigures>,
    /// Why it did nothing, or less than it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ScoreFigures {
    least: f32,
    median: f32,
    most: f32,
    /// The best less the second.
    margin: f32,
}

impl From<StageReport> for StageFigures {
    fn from(report: StageReport) -> Self {
        let scores = report.scores.map(|scores| ScoreFigures {
            least: scores.least,
            median: scores.median,
            most: scores.most,
            margin: scores.margin,
        });
        let StageReport { name, candidates, kept, cached, ms, moved, note, failed, .. } = report;
        // What an endpoint answered is in the log.
        let note =
            note.map(|note| if failed { "failed in part or whole: the server's log says why".into() } else { note });
        Self { name, candidates, kept, cached, ms, moved, scores, note }
    }
}

/// List the pipelines that searches can name
#[utoipa::path(get, path = "/v1/pipelines", operation_id = "list_pipelines", tag = SEARCH,
    responses((status = 200, body = Pipelines)))]
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Pipelines>, ApiError> {
    let info = |(name, ranker): (&String, &Arc<Ranker>)| {
        let pipeline = ranker.pipeline();
        let estimate = ranker.estimate(pipeline.retrieve.top_n).into_iter().map(|estimate| StageEstimate {
            stage: estimate.name,
            candidates: estimate.candidates,
            ms: estimate.ms,
            requests: estimate.requests,
            dropped: estimate.dropped,
        });
        let mut pipeline = serde_json::to_value(pipeline).map_err(|e| ApiError::internal(&e))?;
        // Where models are asked, and by which key, is nobody's business.
        let stages = pipeline["stages"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
        for stage in stages {
            ["base_url", "api_key_env", "request"].into_iter().for_each(|name| drop(stage.remove(name)));
        }
        Ok(PipelineInfo { name: name.clone(), pipeline, estimate: estimate.collect() })
    };
    let pipelines = state.pipelines().iter().map(info).collect::<Result<_, ApiError>>()?;
    Ok(Json(Pipelines { pipelines }))
}

/// The pipeline of that name.
pub(super) fn named(state: &AppState, name: &str) -> Result<Arc<Ranker>, ApiError> {
    state.pipelines().get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = state.pipelines().keys().map(String::as_str).collect();
        ApiError::bad_request(format!("there is no pipeline {name:?}; there are {}", known.join(", ")))
    })
}

/// Logs what language models failed at.
pub(super) fn log_failures(pipeline: &str, report: &Report) {
    for stage in report.stages.iter().filter(|stage| stage.failed) {
        tracing::warn!(pipeline, stage = stage.name, "{}", stage.note.as_deref().unwrap_or_default());
    }
}

/// What is asked of a pipeline.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) queries: Vec<String>,
    pub(super) options: SearchOptions,
    /// Whether answers say what stages did.
    pub(super) report: bool,
}

impl Work {
    /// What a pipeline mostly does.
    pub(super) fn of(ranker: &Ranker) -> Self {
        let any = |of: fn(&StageKind) -> bool| ranker.pipeline().stages.iter().any(|stage| of(&stage.kind));
        match any(|kind| matches!(kind, StageKind::Llm(_))) {
            true => Self::Waiting,
            false if any(|kind| matches!(kind, StageKind::CrossEncoder(_))) => Self::Encoding,
            false => Self::Searching,
        }
    }
}

/// Searches an index by a pipeline.
pub(super) async fn run(state: &AppState, served: &Arc<Served>, asked: Asked) -> Result<Vec<Found>, ApiError> {
    let Asked { name, queries, options, report } = asked;
    let ranker = named(state, &name)?;
    let (brought, most) = (ranker.pipeline().retrieve.top_n, state.limits().documents);
    if queries.len().saturating_mul(brought) > most {
        let text =
            format!("{} queries that bring {brought} passages each: {most} is the most of all together", queries.len());
        return Err(ApiError::bad_request(text));
    }
    let span = tracing::info_span!("pipeline", index = served.name, pipeline = name, queries = queries.len());
    let (work, served) = (Work::of(&ranker), served.clone());
    let (room, until) = (state.room(work), state.until());
    let search = move |stopped: &(dyn Fn() -> bool + Sync)| {
        let reader = served.reader()?;
        let host = Host { stopped, room: &*room, until };
        let one = |query: &String| Ok(reader.search_pipeline_for(query, &ranker, &options, &host)?);
        queries.iter().map(one).collect::<Result<Vec<_>, ApiError>>()
    };
    let answers: Vec<PipelineAnswer> = state.work(work, search).instrument(span).await?;
    for answer in &answers {
        log_failures(&name, &answer.report);
        state.metrics().pipeline(&name, &answer.report);
    }
    Ok(answers.into_iter().map(|answer| found(answer, report)).collect())
}

/// The stages that failed, in part or whole.
pub(super) fn failed(report: &Report) -> Vec<String> {
    report.stages.iter().filter(|stage| stage.failed).map(|stage| stage.name.clone()).collect()
}

impl PipelineReport {
    /// Of stages over so many passages, which took so long to come.
    pub(super) fn new(report: Report, retrieved: usize, retrieve_ms: f64) -> Self {
        let Report { stages, mean_lift, newcomers, .. } = report;
        let stages = stages.into_iter().map(StageFigures::from).collect();
        Self { retrieved, retrieve_ms, stages, mean_lift, newcomers }
    }
}

fn found(answer: PipelineAnswer, wanted: bool) -> Found {
    let PipelineAnswer { answer, report, retrieved, retrieve_ms, .. } = answer;
    let mut found = Found::from(answer);
    found.failed = failed(&report);
    found.pipeline = wanted.then(|| PipelineReport::new(report, retrieved, retrieve_ms));
    found
}
