//! What a device may do of a build, and whether its answers can be taken.

use std::sync::Arc;

use super::Backend;
use crate::codec::{CodedTokens, ResidualCodec};
use crate::error::{Error, Result};

/// Dot products below which the processor does the work: a few milliseconds of it, about what it takes to bring rows to
/// a device, start it and read back, and nothing beside what a kernel's first use costs.
const LEAST_PRODUCTS: usize = 1 << 22;

/// Rows whose answers are looked at, of each time that a device is asked: kernels that do not run may say nothing and
/// leave what was there, and what is written stays.
const CHECKED_ROWS: usize = 16;
/// How far the product with a row's centroid may lie below that with the nearest, for rows of unit length: a device may
/// round both to 11 bits.
const FARTHER: f32 = 2.5e-3;
/// How much less the mean cosine between the rows and what their codes stand for may be than with the processor's
/// codes.
const WORSE: f32 = 1e-2;

/// Finds the centroid of a row, on a device ([`Backend::nearest`]).
pub trait Nearest: Send + Sync {
    /// For each row of `rows` `[n, d]` the centroid with the largest dot product, of equals the first, `[n]`. `None`
    /// leaves it to the processor.
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
    let checked: Vec<usize> = checked(n).collect();
    let rows: Vec<f32> = checked.iter().flat_map(|&at| &rows[at * dim..][..dim]).copied().collect();
    let mut own = vec![0; checked.len()];
    backend.cpu().assign(&rows, centroids, dim, &mut own);
    for ((row, &at), own) in rows.chunks_exact(dim).zip(&checked).zip(own) {
        let score = |id: usize| dot(row, &centroids[id * dim..][..dim]);
        let (found, own) = (score(usize::from(found[at])), score(own as usize));
        if found < own - FARTHER {
            return Err(wrong(backend, format!("it found a centroid at {found} for a row that has one at {own}")));
        }
    }
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
    if found != (n, n * plane, n * fine_plane) {
        return Err(wrong(backend, format!("it gave {found:?} factors and codes for {n} rows")));
    }
    check_codes(backend, codec, rows, &coded)?;
    Ok(Some(coded))
}

/// Compares some of the rows with what their codes stand for.
fn check_codes(backend: &dyn Backend, codec: &ResidualCodec, rows: &[f32], coded: &CodedTokens) -> Result<()> {
    let dim = codec.dim();
    let (mut found, mut own) = (0.0, 0.0);
    for at in checked(coded.centroids.len()) {
        let row = &rows[at * dim..][..dim];
        found += cosine(row, &codec.decode(&coded.tokens(codec, at..at + 1)));
        own += cosine(row, &codec.decode(&codec.encode_on(backend.cpu(), row).tokens(codec, 0..1)));
    }
    let worse = (own - found) / checked(coded.centroids.len()).count().max(1) as f32;
    if worse <= WORSE {
        Ok(())
    } else {
        Err(wrong(backend, format!("its codes are off by {worse} more than they must")))
    }
}

/// The rows that are looked at, of `n`.
fn checked(n: usize) -> impl Iterator<Item = usize> {
    (0..n).step_by(n.div_ceil(CHECKED_ROWS).max(1))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// 0 where one of them has no length.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
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
