//! [`latewood_engine::Backend`] on a GPU: shards stay in its memory, and a search is a handful of launches; of a build
//! it finds the centroids of rows, and codes them.
//!
//! All documents that may be found are ranked by their outlines, or, where as many are to be scored as there are, none;
//! the best are scored by their codes; what is read back is the best of these. There is no gathering from posting
//! lists: a device reads outlines faster than it follows lists.
//!
//! One thread drives the device: CubeCL gives each thread a queue and memory of its own, so that what is kept had best
//! be made, used and dropped on one. Searches and builds from many threads wait for it in line.

mod build;
mod resident;
mod search;
mod worker;

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use latewood_engine::{
    Backend, Coder, CpuBackend, Error, Nearest, Plan, QueryEmbeddings, Ranking, ResidualCodec, Result, Searchable,
};

use crate::client::{Client, GpuError};
use crate::device::{Device, Resolved};
use build::{GpuCoder, GpuNearest};
use worker::{Failure, Job, Reply, Search, Target};

/// Bytes kept on a GPU whose memory is not known.
const USUAL_BUDGET: u64 = 2 << 30;

/// How a GPU is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Bytes of shards that may stay in the device's memory; by default four fifths of it, or 2 GiB where the driver does
    /// not tell how much there is. What does not fit is copied there for each search. Where others have filled the memory, it
    /// shrinks to half of what did stay.
    pub budget: Option<u64>,
    /// Whether the processor takes over for good when the device fails; otherwise each search fails then, and a commit.
    pub falls_back: bool,
}

impl GpuOptions {
    /// For a device found for `asked`: only [`Device::Auto`] falls back.
    pub fn new(asked: Device) -> Self {
        Self { budget: None, falls_back: asked == Device::Auto }
    }
}

/// What there is of an index on the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuStatus {
    /// Bytes of codecs and shards that stay.
    pub resident: u64,
    /// Bytes that may.
    pub budget: u64,
    /// Shards copied to the device so far, those copied again included.
    pub copied: u64,
    /// Whether the last search had to copy shards that do not fit the budget.
    pub streamed: bool,
    /// Why the processor has taken over, if it has.
    pub failure: Option<String>,
}

/// Searches and builds on a GPU. Clones share it.
#[derive(Debug, Clone)]
pub struct GpuBackend {
    name: String,
    cpu: CpuBackend,
    falls_back: bool,
    jobs: Arc<Mutex<Sender<Job>>>,
    status: Arc<Mutex<GpuStatus>>,
}

impl GpuBackend {
    /// Opens a GPU that [`Device::resolve`] found.
    ///
    /// # Errors
    /// When it cannot be used, is too small, or computes wrongly; when `resolved` is the processor.
    pub fn open(resolved: &Resolved, options: &GpuOptions) -> Result<Self, GpuError> {
        #[cfg(feature = "wgpu")]
        if let Some(device) = resolved.wgpu() {
            let client = Client::<burn_wgpu::WgpuRuntime>::connect(&device).map_err(|error| error.of(resolved))?;
            return Self::connect(client, resolved, options);
        }
        #[cfg(feature = "cuda")]
        if let Some(device) = resolved.cuda() {
            let client = Client::<cubecl::cuda::CudaRuntime>::connect(&device).map_err(|error| error.of(resolved))?;
            return Self::connect(client, resolved, options);
        }
        Err(GpuError::Unusable { device: resolved.device.to_string(), reason: "it is not a GPU".into() })
    }

    /// On a device that is open already.
    ///
    /// # Errors
    /// When the system gives no thread to drive it.
    pub fn connect<R: cubecl::prelude::Runtime>(
        client: Client<R>,
        resolved: &Resolved,
        options: &GpuOptions,
    ) -> Result<Self, GpuError> {
        let memory = resolved.adapter.as_ref().and_then(|adapter| adapter.memory);
        let budget = options.budget.unwrap_or_else(|| memory.map_or(USUAL_BUDGET, |bytes| bytes / 5 * 4));
        let status = Arc::new(Mutex::new(GpuStatus { budget, ..GpuStatus::default() }));
        let units = if client.matrix_units().is_ok() { ", matrix units" } else { "" };
        let runtime = client.runtime();
        let name = match &resolved.adapter {
            Some(adapter) => format!("{} ({}, {runtime}{units})", resolved.device, adapter.name),
            None => format!("{} ({runtime}{units})", resolved.device),
        };
        let (jobs, queue) = mpsc::channel();
        worker::start(client, budget, queue, status.clone())?;
        let (cpu, falls_back) = (CpuBackend::new(), options.falls_back);
        Ok(Self { name, cpu, falls_back, jobs: Arc::new(Mutex::new(jobs)), status })
    }

    /// What there is of an index on the device.
    pub fn status(&self) -> GpuStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends the job and waits for its result; `None` where the processor has taken over.
    fn run<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<Option<T>> {
        if self.status().failure.is_some() {
            return Ok(None);
        }
        match self.answer(job) {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::Engine(error)) => Err(error),
            Err(Failure::Gpu(error)) if self.falls_back => {
                let failure = &mut self.status.lock().unwrap_or_else(PoisonError::into_inner).failure;
                // What waited in line fails as well: the first says why.
                if failure.is_none() {
                    tracing::warn!("{}: {error}; the processor takes over", self.name);
                    *failure = Some(error.to_string());
                }
                Ok(None)
            }
            Err(Failure::Gpu(error)) => Err(Error::Device { device: self.name.clone(), reason: error.to_string() }),
        }
    }

    fn answer<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Failure> {
        let (reply, answer) = mpsc::channel();
        let gone = || Failure::Gpu(GpuError::Failed("the thread that drives it has ended".into()));
        self.send(job(reply)).ok_or_else(gone)?;
        answer.recv().map_err(|_| gone())?
    }

    /// Whether anyone takes the job.
    fn send(&self, job: Job) -> Option<()> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).send(job).ok()
    }
}

/// What is said where shards do not stay.
fn streams(budget: u64) -> String {
    format!("the index does not fit the {budget} bytes that may stay there: what is left is copied for each search")
}

impl Backend for GpuBackend {
    fn name(&self) -> String {
        let status = self.status();
        match status.failure {
            Some(reason) => format!("{}, in the place of {}: {reason}", self.cpu.name(), self.name),
            None if status.streamed => format!("{}, {}", self.name, streams(status.budget)),
            None => self.name.clone(),
        }
    }

    fn cpu(&self) -> &CpuBackend {
        &self.cpu
    }

    fn searches(&self) -> bool {
        self.status().failure.is_none()
    }

    fn search(
        &self,
        shards: &[Searchable<'_>],
        queries: &[&QueryEmbeddings],
        plan: Plan,
    ) -> Result<Option<Vec<Ranking>>> {
        let Some(dim) = queries.first().map(|query| query.dim()) else { return Ok(Some(Vec::new())) };
        let targets = shards.iter().map(Target::new).collect();
        let queries = queries.iter().map(|query| query.values().to_vec()).collect();
        self.run(|reply| Job::Search(Search { targets, queries, dim, plan }, reply))
    }

    fn nearest(&self, centroids: &[f32], dim: usize) -> Result<Option<Box<dyn Nearest>>> {
        Ok(self.searches().then(|| Box::new(GpuNearest::new(self, centroids, dim)) as Box<dyn Nearest>))
    }

    fn coder(&self, codec: &Arc<ResidualCodec>) -> Result<Option<Box<dyn Coder>>> {
        Ok(self.searches().then(|| Box::new(GpuCoder::new(self, codec)) as Box<dyn Coder>))
    }
}
