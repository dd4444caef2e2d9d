//! What a build has done on the device.
//!
//! Rows go up a batch at a time, and no more than an answer comes back. Centroids that are trained stay there as long
//! as their [`GpuNearest`], codecs by their digests as for searches.

use std::sync::Arc;

use cubecl::prelude::Runtime;
use latewood_engine::{CodedTokens, Coder, Nearest, ResidualCodec, Result};

use super::GpuBackend;
use super::resident::Resident;
use super::worker::{Failure, Job};
use crate::client::{Client, GpuError};
use crate::cube::{encode, nearest};

/// Rows that go up together at most: enough to keep all of a GPU at work, and a build's memory stays what it was.
const BATCH_ROWS: usize = 1 << 15;

/// Centroids to find nearest ones among.
pub(super) struct GpuNearest {
    backend: GpuBackend,
    /// `[c, dim]`; what lies on the device is known by where they are.
    centroids: Option<Arc<[f32]>>,
    dim: usize,
}

impl GpuNearest {
    pub(super) fn new(backend: &GpuBackend, centroids: &[f32], dim: usize) -> Self {
        Self { backend: backend.clone(), centroids: Some(centroids.into()), dim }
    }
}

impl Nearest for GpuNearest {
    fn assign(&self, rows: &[f32]) -> Result<Option<Vec<u16>>> {
        let Some(centroids) = self.centroids.clone() else { return Ok(None) };
        let mut found = Vec::with_capacity(rows.len() / self.dim);
        for rows in rows.chunks(BATCH_ROWS * self.dim) {
            let job = Assign { centroids: centroids.clone(), dim: self.dim, rows: rows.to_vec() };
            let Some(ids) = self.backend.run(|reply| Job::Assign(job, reply))? else { return Ok(None) };
            found.extend(ids);
        }
        Ok(Some(found))
    }
}

impl Drop for GpuNearest {
    fn drop(&mut self) {
        self.centroids = None;
        // Without the device's thread there is nothing to tidy up.
        let _ = self.backend.send(Job::Tidy);
    }
}

/// Rows `[n, dim]` whose centroids are asked for.
#[derive(Debug)]
pub(super) struct Assign {
    centroids: Arc<[f32]>,
    dim: usize,
    rows: Vec<f32>,
}

pub(super) fn assign<R: Runtime>(resident: &mut Resident<R>, job: &Assign) -> Result<Vec<u16>, Failure> {
    let centroids = resident.centroids(&job.centroids, job.dim)?;
    let client = resident.client();
    let mut found = Vec::with_capacity(job.rows.len() / job.dim);
    for rows in job.rows.chunks(rows_at_once(client, job.dim) * job.dim) {
        let rows = client.upload("rows", rows)?;
        for id in client.read(&nearest(client, &centroids, &rows)?)? {
            found.push(u16::try_from(id).map_err(|_| GpuError::Failed(format!("it named centroid {id}")))?);
        }
    }
    Ok(found)
}

/// A codec to code with.
pub(super) struct GpuCoder {
    backend: GpuBackend,
    codec: Arc<ResidualCodec>,
}

impl GpuCoder {
    pub(super) fn new(backend: &GpuBackend, codec: &Arc<ResidualCodec>) -> Self {
        Self { backend: backend.clone(), codec: codec.clone() }
    }
}

impl Coder for GpuCoder {
    fn code(&self, rows: &[f32]) -> Result<Option<CodedTokens>> {
        let job = Code { codec: self.codec.clone(), rows: rows.to_vec() };
        self.backend.run(|reply| Job::Code(job, reply))
    }
}

/// Rows `[n, dim]` to be coded.
#[derive(Debug)]
pub(super) struct Code {
    codec: Arc<ResidualCodec>,
    rows: Vec<f32>,
}

pub(super) fn code<R: Runtime>(resident: &mut Resident<R>, job: &Code) -> Result<CodedTokens, Failure> {
    let coder = resident.coder(&job.codec)?;
    let (client, dim) = (resident.client(), coder.dim());
    let mut coded = CodedTokens::default();
    for rows in job.rows.chunks(rows_at_once(client, dim) * dim) {
        let rows = client.upload("rows", rows)?;
        encode(client, &coder, &rows)?.read(client, &mut coded)?;
    }
    Ok(coded)
}

/// Rows of so many words that go up together.
fn rows_at_once<R: Runtime>(client: &Client<R>, words: usize) -> usize {
    client.limits().pieces(words).clamp(1, BATCH_ROWS)
}
