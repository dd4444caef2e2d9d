//! Centroids as the registers of matrix units take them.

use cubecl::prelude::Runtime;
use half::f16;

use super::PLANE;
use crate::client::{Buffer, Client, GpuError};

/// Centroids that a product takes.
pub(crate) const GROUP: usize = 8;
/// Most dimensions of rows that registers hold.
const MOST_DIM: usize = 128;

/// Groups of [`GROUP`] centroids as halves, the last centroid repeated to fill its group.
///
/// Unit `4 g + t` of a plane takes, of centroid `g` of the 8, in each step of 16 dimensions four neighbouring ones: which
/// they are is ours to choose, as long as rows do alike. So a quarter of a row is one unit's.
#[derive(Debug, Clone)]
pub(crate) struct Halves {
    /// `[groups, steps, PLANE, 2]`: two halves to a word.
    pub(crate) values: Buffer<u32>,
    /// The first centroid.
    pub(crate) first: usize,
    pub(crate) groups: usize,
}

impl Halves {
    /// Of `rows` `[c, dim]`, in as many pieces as the device's largest allocation asks for; none where rows have more
    /// dimensions than registers hold, or values that halves do not.
    pub(crate) fn new<R: Runtime>(client: &Client<R>, rows: &[f32], dim: usize) -> Result<Vec<Self>, GpuError> {
        let fits = rows.iter().all(|x| x.abs() <= f32::from(f16::MAX));
        if dim > MOST_DIM || !fits {
            return Ok(Vec::new());
        }
        // One group at least: what does not fit then says so.
        let at_once = client.limits().pieces(dim.div_ceil(16) * PLANE * 2).max(1) * GROUP;
        let parts = rows.chunks(at_once * dim).enumerate().map(|(part, rows)| {
            let values = client.upload("centroids", &in_groups(rows, dim))?;
            Ok(Self { values, first: part * at_once, groups: (rows.len() / dim).div_ceil(GROUP) })
        });
        parts.collect()
    }
}

/// See [`Halves::values`].
pub(crate) fn in_groups(rows: &[f32], dim: usize) -> Vec<u32> {
    let (count, steps) = (rows.len() / dim, dim.div_ceil(16));
    let value = |centroid: usize, at: usize| {
        let value = if at < dim { rows[centroid.min(count - 1) * dim + at] } else { 0.0 };
        u32::from(f16::from_f32(value).to_bits())
    };
    let mut out = Vec::with_capacity(count.div_ceil(GROUP) * steps * PLANE * 2);
    for group in 0..count.div_ceil(GROUP) {
        for step in 0..steps {
            for word in 0..PLANE * 2 {
                let (unit, pair) = (word / 2, word % 2);
                let at = (unit % 4 * steps + step) * 4 + pair * 2;
                let centroid = group * GROUP + unit / 4;
                out.push(value(centroid, at) | value(centroid, at + 1) << 16);
            }
        }
    }
    out
}
