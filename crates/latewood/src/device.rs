//! Where searches, builds and models run.

use std::sync::Arc;

use latewood_encoder::{Compute, EncoderDevice};
use latewood_engine::{Backend, CpuBackend, DocId, Index, QueryEmbeddings, SearchParams, Searcher};
use latewood_kernels::Resolved;
pub use latewood_kernels::{Device, DeviceError, Found, found};

use crate::error::{Error, Result};

/// A device that is ready. Cheap to clone: clones share what lies in its memory.
#[derive(Debug, Clone)]
pub struct Opened {
    backend: Arc<dyn Backend>,
    compute: Compute,
    /// What it is and why, for a log: `cpu (avx2): no GPU can be used; found: ...`.
    pub reason: String,
    /// Whether it is a GPU.
    pub is_gpu: bool,
}

impl Opened {
    /// Finds and opens `device`. Only [`Device::Auto`] may end with the processor instead of a GPU, now or, when the GPU fails,
    /// later.
    ///
    /// # Errors
    /// When a device that is named is not there or cannot be used, or this program was built without what it takes.
    pub fn new(device: Device) -> Result<Self> {
        let resolved = device.resolve()?;
        let why = match gpu(&resolved, device) {
            Ok(Some(backend)) => {
                let reason = format!("{}: {}", backend.name(), resolved.reason);
                let name = resolved.adapter.as_ref().map_or_else(|| resolved.device.to_string(), ToString::to_string);
                let compute = Compute::on(encoder(&resolved)).called(name);
                let compute = if device == Device::Auto { compute.or_processor() } else { compute };
                return Ok(Self { backend, compute, reason, is_gpu: true });
            }
            Ok(None) => resolved.reason,
            Err(error) if device == Device::Auto => error.to_string(),
            Err(error) => return Err(error),
        };
        Ok(Self::cpu(&why))
    }

    /// The processor.
    fn cpu(why: &str) -> Self {
        let backend = CpuBackend::new();
        let reason = format!("{}: {why}", backend.name());
        Self { reason, backend: Arc::new(backend), compute: Compute::default(), is_gpu: false }
    }

    /// For a model to be loaded there.
    pub fn compute(&self) -> Compute {
        self.compute.clone()
    }

    /// For [`Index::with_backend`].
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }
}

fn encoder(resolved: &Resolved) -> EncoderDevice {
    #[cfg(feature = "wgpu")]
    if let Some(device) = resolved.wgpu() {
        return EncoderDevice::Wgpu(device);
    }
    #[cfg(feature = "cuda")]
    if let Some(device) = resolved.cuda() {
        return EncoderDevice::Cuda(device);
    }
    let _ = resolved;
    EncoderDevice::Cpu
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn gpu(resolved: &Resolved, asked: Device) -> Result<Option<Arc<dyn Backend>>> {
    if resolved.device == Device::Cpu {
        return Ok(None);
    }
    let options = latewood_kernels::GpuOptions::new(asked);
    Ok(Some(Arc::new(latewood_kernels::GpuBackend::open(resolved, &options)?)))
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn gpu(_: &Resolved, _: Device) -> Result<Option<Arc<dyn Backend>>> {
    Ok(None)
}

/// Documents whose tokens are asked for by [`compare`].
const SAMPLES: usize = 32;
/// Rows of each query.
const ROWS: usize = 32;
/// Hits of each query.
const K: usize = 10;
/// How far scores may lie apart, for each row of a query: the processor rounds a query's rows to bytes.
const TOLERANCE: f32 = 0.003;

/// How a device's answers compare with the processor's.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// The device.
    pub device: String,
    /// Searches compared.
    pub queries: usize,
    /// The largest difference between two scores of one place, for each row of the query.
    pub largest: f32,
    /// What it may be.
    pub tolerance: f32,
    /// Hits of the processor that the device lacks although their score is clear of the last place's.
    pub missing: usize,
}

impl Comparison {
    /// Whether the device may be trusted with the index.
    pub fn agrees(&self) -> bool {
        self.largest <= self.tolerance && self.missing == 0
    }
}

/// Searches an index on a device and on the processor, exhaustively, for tokens of some of its documents.
///
/// # Errors
/// When the index is damaged, or the device fails.
pub fn compare(index: &Index, device: &Opened) -> Result<Comparison> {
    let there = index.clone().with_backend(device.backend()).searcher()?;
    let here = index.clone().with_backend(CpuBackend::new()).searcher()?;
    let (device, tolerance) = (there.backend().name(), TOLERANCE);
    let mut result = Comparison { device, queries: 0, largest: 0.0, tolerance, missing: 0 };
    let documents = here.documents();
    for &doc in documents.iter().step_by(documents.len().div_ceil(SAMPLES).max(1)) {
        let Some(query) = query_of(&here, doc)? else { continue };
        let mut params = SearchParams::new(K);
        params.exhaustive = true;
        let (found, expected) = (there.search(&query, &params)?.hits, here.search(&query, &params)?.hits);
        let rows = (query.values().len() / query.dim()) as f32;
        let apart = found.iter().zip(&expected).map(|(a, b)| (a.score - b.score).abs() / rows);
        result.largest = apart.fold(result.largest, f32::max);
        let last = expected.last().map_or(0.0, |hit| hit.score) + 2.0 * rows * TOLERANCE;
        let clear = expected.iter().filter(|hit| hit.score > last);
        result.missing += clear.filter(|hit| found.iter().all(|other| other.doc != hit.doc)).count();
        result.queries += 1;
    }
    Ok(result)
}

/// The first tokens of a document.
fn query_of(searcher: &Searcher, doc: DocId) -> Result<Option<QueryEmbeddings>> {
    let Some(mut rows) = searcher.embeddings(doc)? else { return Ok(None) };
    let dim = searcher.info().dim;
    rows.truncate(ROWS * dim);
    QueryEmbeddings::new(rows, dim).map(Some).map_err(Error::from)
}
