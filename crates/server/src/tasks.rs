//! Work that outlasts a request: how far it is, and how to stop it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use latewood::{Event, Monitor};
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::error::ApiError;

/// Finished tasks that are remembered.
const REMEMBERED: usize = 1000;

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskKind {
    /// Adding documents.
    AddDocuments,
    /// Deleting documents.
    DeleteDocuments,
    /// Bringing an index up to date with its folder.
    Sync,
}

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskStatus {
    /// It waits for others.
    Queued,
    /// It is under way.
    Running,
    /// All is done and searchable.
    Succeeded,
    /// It has ended with an error; what `done` counts is searchable.
    Failed,
    /// It was stopped; what `done` counts is searchable.
    Cancelled,
}

impl TaskStatus {
    pub(crate) fn is_finished(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// What a write did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Written {
    /// Documents that were not there.
    pub(crate) added: usize,
    /// Documents whose content is new.
    pub(crate) updated: usize,
    /// Documents whose content was there already: not encoded again.
    pub(crate) unchanged: usize,
    /// Documents that are gone.
    pub(crate) deleted: usize,
    /// Passages encoded.
    pub(crate) passages: usize,
    /// The commit that made it searchable; it grows with every commit of the index.
    pub(crate) generation: u64,
}

impl Written {
    /// Adds what another commit did.
    pub(crate) fn add(&mut self, other: &Self, generation: u64) {
        self.added += other.added;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.deleted += other.deleted;
        self.passages += other.passages;
        self.generation = generation;
    }
}

/// A task as clients see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TaskState {
    pub(crate) id: u64,
    pub(crate) index: String,
    pub(crate) kind: TaskKind,
    pub(crate) status: TaskStatus,
    /// Documents (of a sync, bytes) done with and searchable.
    pub(crate) done: u64,
    /// Documents (of a sync, bytes) in all; 0 until that is known.
    pub(crate) total: u64,
    /// What it has done so far.
    pub(crate) written: Written,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<TaskError>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TaskError {
    code: &'static str,
    message: String,
}

/// One task.
#[derive(Debug)]
pub(crate) struct Task {
    state: watch::Sender<TaskState>,
    cancelled: AtomicBool,
    /// Why it failed, as a request would be told.
    failure: Mutex<Option<ApiError>>,
}

impl Task {
    pub(crate) fn state(&self) -> TaskState {
        self.state.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<TaskState> {
        self.state.subscribe()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut TaskState)) {
        self.state.send_modify(change);
    }

    /// Ends it.
    pub(crate) fn finish(&self, result: Result<(), ApiError>) {
        let status = match &result {
            Ok(()) => TaskStatus::Succeeded,
            Err(error) if error.code() == "cancelled" => TaskStatus::Cancelled,
            Err(_) => TaskStatus::Failed,
        };
        let error = result.err();
        let shown = error.as_ref().map(|e| TaskError { code: e.code(), message: e.message().into() });
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = error;
        self.update(|state| (state.status, state.error) = (status, shown));
    }

    /// Waits for its end.
    pub(crate) async fn finished(&self) -> Result<TaskState, ApiError> {
        let mut watch = self.watch();
        // The sender lives as long as the task.
        let state =
            watch.wait_for(|state| state.status.is_finished()).await.map_err(|e| ApiError::internal(&e))?.clone();
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(error) => Err(error),
            None => Ok(state),
        }
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Of a sync: bytes of files.
impl Monitor for Task {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Found { bytes, .. } => self.update(|state| state.total = bytes),
            Event::Encoded { bytes, .. } => self.update(|state| state.done = bytes),
            _ => {}
        }
    }

    fn cancelled(&self) -> bool {
        self.is_cancelled()
    }
}

/// All tasks that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    next: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tasks: BTreeMap<u64, Arc<Task>>,
    order: VecDeque<u64>,
}

impl Tasks {
    pub(crate) fn create(&self, index: &str, kind: TaskKind, total: u64) -> Arc<Task> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (status, written) = (TaskStatus::Queued, Written::default());
        let state = TaskState { id, index: index.into(), kind, status, done: 0, total, written, error: None };
        let task =
            Arc::new(Task { state: watch::Sender::new(state), cancelled: false.into(), failure: Mutex::default() });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tasks.insert(id, task.clone());
        known.order.push_back(id);
        known.forget();
        task
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Task>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).tasks.get(&id).cloned()
    }

    /// The newest first.
    pub(crate) fn list(&self) -> Vec<TaskState> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tasks.values().rev().map(|task| task.state()).collect()
    }
}

impl Known {
    /// Forgets the oldest that are finished.
    fn forget(&mut self) {
        while self.tasks.len() > REMEMBERED {
            let finished = |id: &u64| self.tasks.get(id).is_none_or(|task| task.state().status.is_finished());
            let Some(at) = self.order.iter().position(finished) else { return };
            if let Some(id) = self.order.remove(at) {
                self.tasks.remove(&id);
            }
        }
    }
}
