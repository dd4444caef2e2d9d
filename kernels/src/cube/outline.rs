//! Documents scored by their tokens' outlines: which centroid, and how far from it.

use cubecl::prelude::*;

use super::sketch::sketch;
use super::sum::{add_maxima, unit_lanes};
use super::tile::unit_token;
use super::{Four, LOWEST, TOKEN_UNITS, cube_dim};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::{Codec, Queries, Shard, Table};

/// Scores documents of a shard, given by their positions in it `[n]`, by a guess at each token: its centroid's score
/// times the weight of the token's scale, and what a token of that scale is taken to lean towards the row. Into
/// `[queries, n]`.
///
/// Where the device has matrix units, centroids' scores are taken in bytes; see [`Client::matrix_units`].
///
/// # Errors
/// As [`super::residual`].
pub fn outline<R: Runtime>(
    client: &Client<R>,
    codec: &Codec,
    shard: &Shard,
    queries: &Queries,
    table: &Table,
    docs: &Buffer<u32>,
) -> Result<Buffer<f32>, GpuError> {
    shard.check_codec(codec)?;
    table.check(codec, queries)?;
    if client.matrix_units().is_ok() {
        return sketch(client, codec, shard, queries, table, docs);
    }
    let scores = client.empty("scores", queries.len() * docs.len())?;
    if docs.is_empty() {
        return Ok(scores);
    }
    for part in table.parts() {
        outline_kernel::launch::<R>(
            client.raw(),
            client.cubes(docs.len())?,
            cube_dim(),
            shard.outlines().arg(client)?,
            shard.offsets().arg(client)?,
            docs.arg(client)?,
            part.values.fours(client)?,
            codec.estimates().arg(client)?,
            queries.lengths().fours(client)?,
            queries.plan().arg(client)?,
            scores.arg(client)?,
            codec.centroids(),
            docs.len(),
            part.first_block,
            part.blocks,
            queries.len(),
        );
    }
    Ok(scores)
}

/// One cube a document. `estimates` are 64 weights, then 64 leans.
#[cube(launch)]
fn outline_kernel(
    outlines: &Array<u32>,
    offsets: &Array<u32>,
    docs: &Array<u32>,
    table: &Array<Four<f32>>,
    estimates: &Array<f32>,
    lengths: &Array<Four<f32>>,
    plan: &Array<u32>,
    scores: &mut Array<f32>,
    centroids: usize,
    n: usize,
    first_block: usize,
    blocks: usize,
    queries: usize,
) {
    let position = CUBE_POS;
    if position >= n {
        terminate!();
    }
    let doc = docs[position] as usize;
    let start = offsets[doc] as usize;
    let end = offsets[doc + 1] as usize;
    for block in 0..blocks {
        let length = lengths[unit_lanes(first_block + block)];
        let mut best = Four::<f32>::new(LOWEST);
        let mut token = start + unit_token();
        while token < end {
            let outline = outlines[token];
            let near = table[unit_lanes(block * centroids + (outline & 0xffff) as usize)];
            let scale = (outline >> 26) as usize;
            best = max(best, near * Four::new(estimates[scale]) + length * Four::new(estimates[scale + 64]));
            token += TOKEN_UNITS;
        }
        add_maxima(best, plan, scores, first_block + block, position, n, queries);
    }
}
