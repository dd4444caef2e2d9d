//! A table in 16 bits a score, or in 8, which takes half or a quarter of the time to read.

use cubecl::prelude::*;

use super::{Four, LANES};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::{Codec, Fragments, HALF_BYTE, MOST_BYTE, Queries, TablePart};

const UNITS: u32 = 256;
/// Most that a score may be, in steps, and half of all that 16 bits tell apart.
const MOST: f32 = 32767.0;
const HALF: f32 = 32768.0;

/// What one step is worth, of rows that are up to 2^15 long and centroids up to `reach`.
pub(super) fn step(reach: f32) -> f32 {
    reach * (HALF / MOST)
}

/// The scores of a part of a table, each times the factor of its row, as steps above -2^15: `[blocks, centroids, LANES
/// / 2]`, two to a word.
pub(super) fn narrow<R: Runtime>(
    client: &Client<R>,
    codec: &Codec,
    fragments: &Fragments,
    part: &TablePart,
) -> Result<Buffer<u32>, GpuError> {
    let len = part.values.len() / 2;
    let narrow = client.empty("scores of centroids", len)?;
    narrow_kernel::launch::<R>(
        client.raw(),
        client.cubes(len.div_ceil(2 * UNITS as usize))?,
        CubeDim::new_1d(UNITS),
        part.values.fours(client)?,
        fragments.factors.fours(client)?,
        narrow.vectors(client, 2)?,
        1.0 / step(codec.reach()),
        codec.centroids(),
        part.first_block,
        len / 2,
    );
    Ok(narrow)
}

/// One unit for four scores.
#[cube(launch)]
fn narrow_kernel(
    table: &Array<Four<f32>>,
    factors: &Array<Four<f32>>,
    narrow: &mut Array<Vector<u32, Const<2>>>,
    steps: f32,
    centroids: usize,
    first_block: usize,
    n: usize,
) {
    let at = ABSOLUTE_POS;
    if at >= n {
        terminate!();
    }
    let fours = comptime!(LANES / 4);
    let block = first_block + at / (centroids * fours);
    // A row's factor times a step may be too large to hold: first the one, then the other.
    let scores = table[at] * factors[block * fours + at % fours] * Four::new(steps) + Four::new(HALF);
    // A score that is out of bounds leaves its neighbour in the word alone.
    let scores = clamp((scores + Four::new(0.5)).floor(), Four::new(0.0), Four::new(65535.0));
    let scores = Vector::<u32, Const<4>>::cast_from(scores);
    let mut words = Vector::<u32, Const<2>>::empty();
    words[0] = scores[0] | scores[1] << 16;
    words[1] = scores[2] | scores[3] << 16;
    narrow[at] = words;
}

/// The scores of a part of a table, in units of the length of their row times that of the longest centroid, as bytes, 128
/// for 0 and 255 for 1: `[blocks, centroids, LANES / 4]`, four to a word.
pub(super) fn bytes<R: Runtime>(
    client: &Client<R>,
    codec: &Codec,
    queries: &Queries,
    part: &TablePart,
) -> Result<Buffer<u32>, GpuError> {
    let len = part.values.len() / 4;
    let bytes = client.empty("scores of centroids", len)?;
    bytes_kernel::launch::<R>(
        client.raw(),
        client.cubes(len.div_ceil(UNITS as usize))?,
        CubeDim::new_1d(UNITS),
        part.values.fours(client)?,
        queries.lengths().fours(client)?,
        bytes.arg(client)?,
        MOST_BYTE / codec.reach(),
        codec.centroids(),
        part.first_block,
        len,
    );
    Ok(bytes)
}

/// One unit for four scores.
#[cube(launch)]
fn bytes_kernel(
    table: &Array<Four<f32>>,
    lengths: &Array<Four<f32>>,
    bytes: &mut Array<u32>,
    steps: f32,
    centroids: usize,
    first_block: usize,
    n: usize,
) {
    let at = ABSOLUTE_POS;
    if at >= n {
        terminate!();
    }
    let fours = comptime!(LANES / 4);
    let block = first_block + at / (centroids * fours);
    let (scores, lengths) = (table[at], lengths[block * fours + at % fours]);
    let mut word = 0u32;
    #[unroll]
    for i in 0..4usize {
        // A row of no length scores 0.
        let score = select(lengths[i] > 0.0, scores[i] / lengths[i] * steps, 0.0);
        let byte = u32::cast_from((clamp(score, -MOST_BYTE, MOST_BYTE) + (HALF_BYTE + 0.5)).floor());
        word |= byte << comptime!(8 * i as u32);
    }
    bytes[at] = word;
}
