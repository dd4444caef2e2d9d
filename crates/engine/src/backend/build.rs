//! What a device may do of a build, and whether its answers can be taken.

use std::sync::Arc;

use super::Backend;
use crate::codec::{CodedTokens, ResidualCodec};
use crate::error::{Error, Result};

/// Dot products below which the processor does the work: a few milliseconds of it, about what it takes to bring rows to a
/// device, start it and read back, and nothing beside what a kernel's first use costs.
const LEAST_PRODUCTS: usize = 1 << 22;

/// Finds the centroid of a row, on a device ([`Backend::nearest`]).
pub trait Nearest: Send + Sync {
    /// For each row of `rows` `[n, d]` the centroid with the largest dot product, of equals the first, `[n]`. `None` leaves
    /// it to the processor.
    ///
    /// # Errors
    /// When the device fails ([`crate::Error::Device`]).
    fn assign(&self, rows: &[f32]) -> Result<Option<Vec<u16>>>;
}

/// Codes rows, on a device ([`Backend::coder`]).
pub trait Coder: Send + Sync {
    /// The unit rows `rows` `[n, d]`, as the embeddings came, coded. `None` leaves it to the processor.
    ///
    /// # Errors
    /// When the device fails ([`crate::Error::Device`]).
    fn code(&self, rows: &[f32]) -> Result<Option<CodedTokens>>;
}

/// The centroid of each of `rows` `[n, d]`, found on the backend's device; `None` where the processor is to find it.
///
/// # Errors
/// When the device fails, or names centroids that are none.
pub(crate) fn assign(backend: &dyn Backend, centroids: &[f32], dim: usize, rows: &[f32]) -> Result<Option<Vec<u16>>> {
    let (n, count) = (rows.len() / dim, centroids.len() / dim);
    if n.saturating_mul(count) < LEAST_PRODUCTS {
        return Ok(None);
    }
    let Some(nearest) = backend.nearest(centroids, dim)? else { return Ok(None) };
    let Some(found) = nearest.assign(rows)? else { return Ok(None) };
    check_ids(backend, &found, n, count)?;
    Ok(Some(found))
}

/// The rows `[n, d]`, coded on the backend's device; `None` where the processor is to code them.
///
/// # Errors
/// When the device fails, or what it gives are no tokens of `codec`.
pub(crate) fn code(backend: &dyn Backend, codec: &Arc<ResidualCodec>, rows: &[f32]) -> Result<Option<CodedTokens>> {
    let (n, count) = (rows.len() / codec.dim(), codec.centroid_count());
    if n.saturating_mul(count) < LEAST_PRODUCTS {
        return Ok(None);
    }
    let Some(coder) = backend.coder(codec)? else { return Ok(None) };
    let Some(coded) = coder.code(rows)? else { return Ok(None) };
    check_ids(backend, &coded.centroids, n, count)?;
    let (plane, fine_plane) = codec.planes();
    let found = (coded.factors.len(), coded.codes.len(), coded.fine.len());
    let right = found == (n, n * plane, n * fine_plane);
    if right {
        Ok(Some(coded))
    } else {
        Err(wrong(backend, format!("it gave {found:?} factors and codes for {n} rows")))
    }
}

fn check_ids(backend: &dyn Backend, ids: &[u16], n: usize, count: usize) -> Result<()> {
    if ids.len() != n {
        return Err(wrong(backend, format!("it gave {} centroids for {n} rows", ids.len())));
    }
    match ids.iter().find(|&&id| usize::from(id) >= count) {
        None => Ok(()),
        Some(id) => Err(wrong(backend, format!("it named centroid {id} of {count}"))),
    }
}

fn wrong(backend: &dyn Backend, reason: String) -> Error {
    Error::Device { device: backend.name(), reason }
}
