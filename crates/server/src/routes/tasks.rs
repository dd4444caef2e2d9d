//! Tasks: how far they are, as an answer or as a stream of events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use utoipa::openapi::Ref;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{IntoParams, ToSchema};

use super::{TASKS, read_path};
use crate::error::ApiError;
use crate::state::AppState;
use crate::tasks::{Task, TaskState};

/// Whether an answer waits for what was asked.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// Whether to answer when all is done and searchable (200), or at once (202), with a task to follow. What takes longer
    /// than a request may is answered with its task as well.
    #[param(default = true, required = false)]
    wait: Option<bool>,
}

impl WaitQuery {
    pub(super) fn of(query: Result<Query<Self>, QueryRejection>) -> Result<bool, ApiError> {
        query.map(|Query(query)| query.wait.unwrap_or(true)).map_err(|e| ApiError::bad_request(e.body_text()))
    }
}

/// All tasks that are remembered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskList {
    /// The newest first.
    tasks: Vec<TaskState>,
}

/// An event of a stream that follows a task.
#[derive(ToSchema)]
pub(crate) struct TaskEvent {
    #[schema(schema_with = state_as_text)]
    #[allow(dead_code, reason = "it is there to be described")]
    data: String,
}

fn state_as_text() -> Schema {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some("The task's state, as JSON."));
    text.content_media_type("application/json").content_schema(Some(Ref::from_schema_name("TaskState"))).into()
}

/// What a request that makes a task is told.
pub(super) async fn answer(state: &AppState, task: &Arc<Task>, wait: bool) -> Result<Response, ApiError> {
    if wait && let Ok(finished) = tokio::time::timeout(state.limits().request_time, task.finished()).await {
        return Ok(Json(finished?).into_response());
    }
    Ok((StatusCode::ACCEPTED, Json(task.state())).into_response())
}

fn find(state: &AppState, path: Result<Path<String>, PathRejection>) -> Result<Arc<Task>, ApiError> {
    let id = read_path(path)?;
    let number = id.parse().map_err(|_| ApiError::bad_request(format!("task {id:?} is not a whole number")))?;
    state.tasks().get(number).ok_or_else(|| ApiError::not_found(format!("there is no task {id}")))
}

/// List tasks
#[utoipa::path(get, path = "/v1/tasks", operation_id = "list_tasks", tag = TASKS, responses((status = 200, body = TaskList)))]
pub(crate) async fn list(State(state): State<AppState>) -> Json<TaskList> {
    Json(TaskList { tasks: state.tasks().list() })
}

/// Say how far a task is
#[utoipa::path(get, path = "/v1/tasks/{task}", operation_id = "get_task", tag = TASKS, params(("task" = u64, Path)), responses(
    (status = 200, body = TaskState)
))]
pub(crate) async fn get(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskState>, ApiError> {
    Ok(Json(find(&state, path)?.state()))
}

/// Stop a task: what it has committed stays
#[utoipa::path(delete, path = "/v1/tasks/{task}", operation_id = "cancel_task", tag = TASKS, params(("task" = u64, Path)), responses(
    (status = 202, body = TaskState, description = "It will stop after the commit under way")
))]
pub(crate) async fn cancel(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let task = find(&state, path)?;
    task.cancel();
    Ok((StatusCode::ACCEPTED, Json(task.state())).into_response())
}

/// Follow a task: an event for each change of its state, until it has ended
#[utoipa::path(get, path = "/v1/tasks/{task}/events", operation_id = "follow_task", tag = TASKS, params(("task" = u64, Path)), responses(
    (status = 200, content_type = "text/event-stream", body = TaskEvent, description = "Events, as the schema has one of them: `data:` is the task's state")
))]
pub(crate) async fn events(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let task = find(&state, path)?;
    let (sender, states) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut watch = task.watch();
        loop {
            let state = watch.borrow_and_update().clone();
            let ended = state.status.is_finished();
            if sender.send(state).await.is_err() || ended {
                return;
            }
            tokio::select! {
                changed = watch.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
    let events = ReceiverStream::new(states).map(|state| Ok(Event::default().json_data(&state).unwrap_or_default()));
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}
