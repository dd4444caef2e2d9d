//! The thread that drives a device.

use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::prelude::Runtime;
use latewood_engine::{CodedTokens, DocOrd, Error, Plan, Ranking, Searchable, Shard};

use super::build::{Assign, Code, assign, code};
use super::resident::Resident;
use super::search::search;
use super::{GpuStatus, streams};
use crate::client::{Client, GpuError};
use crate::failures::watched;

/// What stopped a job.
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

/// A search.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) targets: Vec<Target>,
    /// Each `[q, d]`, as it came.
    pub(super) queries: Vec<Vec<f32>>,
    pub(super) dim: usize,
    pub(super) plan: Plan,
}

/// Where an answer goes.
pub(super) type Reply<T> = Sender<Result<T, Failure>>;

/// What there is to do, and where the answer goes.
#[derive(Debug)]
pub(super) enum Job {
    Search(Search, Reply<Vec<Ranking>>),
    Assign(Assign, Reply<Vec<u16>>),
    Code(Code, Reply<CodedTokens>),
    /// Centroids may have been dropped, to which rows were assigned.
    Tidy,
}

/// A device, and what lies on it.
struct Worker<R: Runtime> {
    client: Client<R>,
    budget: u64,
    resident: Resident<R>,
    status: Arc<Mutex<GpuStatus>>,
    /// Whether it was said that shards do not stay.
    streams: bool,
}

impl<R: Runtime> Worker<R> {
    fn take(&mut self, job: Job) {
        match job {
            Job::Search(job, reply) => self.answer(&reply, |resident| search(resident, &job)),
            Job::Assign(job, reply) => self.answer(&reply, |resident| assign(resident, &job)),
            Job::Code(job, reply) => self.answer(&reply, |resident| code(resident, &job)),
            // Whoever needs the device next hears that it has failed.
            Job::Tidy => drop(self.run(|resident| Ok(resident.tidy()?))),
        }
    }

    fn answer<T>(&mut self, reply: &Reply<T>, act: impl Fn(&mut Resident<R>) -> Result<T, Failure>) {
        // Who does not wait any more needs no answer.
        drop(reply.send(self.run(act)));
    }

    /// Does `act`, with ever less that stays on the device as long as its memory is full.
    fn run<T>(&mut self, act: impl Fn(&mut Resident<R>) -> Result<T, Failure>) -> Result<T, Failure> {
        loop {
            let done = watched(|| act(&mut self.resident)).unwrap_or_else(|fault| Err(GpuError::from(fault).into()));
            let (shards, stayed) = (self.resident.shard_bytes(), self.resident.bytes());
            if matches!(done, Err(Failure::Gpu(_))) {
                // Whatever is there may be lost.
                self.resident = Resident::new(self.client.clone(), self.budget);
            }
            if let Err(Failure::Gpu(GpuError::Full(fault))) = &done
                && shards > 0
                && self.client.release().is_ok()
            {
                // Codecs stay beside the budget: it shrinks whatever they take.
                self.budget = self.budget.min(stayed) / 2;
                tracing::warn!("the GPU's shards may take {} bytes from now on: {fault}", self.budget);
                self.resident = Resident::new(self.client.clone(), self.budget);
                continue;
            }
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            self.resident.report(&mut status);
            if status.streamed && !self.streams {
                self.streams = true;
                tracing::warn!("on the GPU {}", streams(status.budget));
            }
            return done;
        }
    }
}

/// Starts the thread; it ends when nobody can send jobs any more.
pub(super) fn start<R: Runtime>(
    client: Client<R>,
    budget: u64,
    jobs: Receiver<Job>,
    status: Arc<Mutex<GpuStatus>>,
) -> Result<(), GpuError> {
    let drive = move || {
        let resident = Resident::new(client.clone(), budget);
        let mut worker = Worker { client, budget, resident, status, streams: false };
        jobs.into_iter().for_each(|job| worker.take(job));
    };
    let thread = std::thread::Builder::new().name("latewood-gpu".into()).spawn(drive);
    thread.map(drop).map_err(|error| GpuError::Failed(format!("no thread to drive it: {error}")))
}
