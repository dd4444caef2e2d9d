//! The thread that drives a device.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::prelude::Runtime;
use latewood_engine::{DocOrd, Error, Plan, Ranking, Searchable, Shard};

use super::GpuStatus;
use super::resident::Resident;
use super::search::search;
use crate::client::{Client, GpuError, text_of};

/// What stopped a search.
#[derive(Debug)]
pub(super) enum Failure {
    /// A damaged shard.
    Engine(Error),
    Gpu(GpuError),
}

impl From<GpuError> for Failure {
    fn from(error: GpuError) -> Self {
        Self::Gpu(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// A shard to be searched.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) shard: Arc<Shard>,
    /// What may be found in it, ascending; `None` is all.
    pub(super) docs: Option<Vec<u32>>,
}

impl Target {
    pub(super) fn new(searchable: &Searchable<'_>) -> Self {
        let shard = searchable.shard().clone();
        let some = searchable.count() < shard.doc_count();
        Self { docs: some.then(|| searchable.docs().map(|DocOrd(doc)| doc).collect()), shard }
    }

    /// How many documents may be found.
    pub(super) fn count(&self) -> usize {
        self.docs.as_ref().map_or(self.shard.doc_count(), Vec::len)
    }
}

/// A search, and where its answer goes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) targets: Vec<Target>,
    /// Each `[q, d]`, as it came.
    pub(super) queries: Vec<Vec<f32>>,
    pub(super) dim: usize,
    pub(super) plan: Plan,
    pub(super) reply: Sender<Result<Vec<Ranking>, Failure>>,
}

/// Starts the thread; it ends when nobody can send jobs any more.
pub(super) fn start<R: Runtime>(
    client: Client<R>,
    budget: u64,
    jobs: Receiver<Job>,
    status: Arc<Mutex<GpuStatus>>,
) -> Result<(), GpuError> {
    let drive = move || {
        let mut resident = Resident::new(client.clone(), budget);
        for job in jobs {
            let found = catch_unwind(AssertUnwindSafe(|| search(&mut resident, &job)));
            let found = found.unwrap_or_else(|panic| Err(GpuError::Failed(text_of(&*panic)).into()));
            if matches!(found, Err(Failure::Gpu(_))) {
                // Whatever is there may be lost.
                resident = Resident::new(client.clone(), budget);
            }
            let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
            resident.report(&mut status);
            drop(status);
            // Who does not wait any more needs no answer.
            drop(job.reply.send(found));
        }
    };
    let thread = std::thread::Builder::new().name("latewood-gpu".into()).spawn(drive);
    thread.map(drop).map_err(|error| GpuError::Failed(format!("no thread to drive it: {error}")))
}
