//! MaxSim of documents straight from their packed codes.

use cubecl::prelude::*;

use super::matrix::residual_matrix;
use super::sum::{add_maxima, unit_lanes};
use super::tile::{DEPTH, DEPTH_FOURS, expand, multiply, new_sums, new_tile, query_at, token_at, unit_token};
use super::{Four, LOWEST, TOKEN_UNITS, TOKENS, UNIT_TOKENS, cube_dim};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::{Codec, Queries, Shard, Table};

/// Scores documents of a shard, given by their positions in it `[n]`, with their compressed tokens: for each query and
/// document the sum, over the query's rows, of the largest dot product with a token. Into `[queries, n]`.
///
/// Where the device has matrix units, they compute it, from rows rounded to 11 bits; see [`Client::matrix_units`].
///
/// A document without tokens scores less than any other, and so does a position outside the shard.
///
/// # Errors
/// When the parts are not of one codec or one batch; when the scores do not fit one allocation. That the kernel failed
/// shows in [`Client::read`].
pub fn residual<R: Runtime>(
    client: &Client<R>,
    codec: &Codec,
    shard: &Shard,
    queries: &Queries,
    table: &Table,
    docs: &Buffer<u32>,
) -> Result<Buffer<f32>, GpuError> {
    shard.check_codec(codec)?;
    table.check(codec, queries)?;
    let coded = queries.coded(codec)?;
    if let (Ok(()), Some(fragments)) = (client.matrix_units(), queries.fragments()) {
        return residual_matrix(client, codec, shard, queries, fragments, table, docs);
    }
    let scores = client.empty("scores", queries.len() * docs.len())?;
    if docs.is_empty() {
        return Ok(scores);
    }
    for part in table.parts() {
        residual_kernel::launch::<R>(
            client.raw(),
            client.cubes(docs.len())?,
            cube_dim(),
            shard.codes().arg(client)?,
            shard.outlines().arg(client)?,
            shard.offsets().arg(client)?,
            docs.arg(client)?,
            coded.fours(client)?,
            part.values.fours(client)?,
            codec.constants().arg(client)?,
            queries.plan().arg(client)?,
            scores.arg(client)?,
            codec.words(),
            codec.centroids(),
            docs.len(),
            part.first_block,
            part.blocks,
            queries.len(),
            codec.bits() as usize,
        );
    }
    Ok(scores)
}

/// One cube a document. `table` is `[blocks, centroids, LANES]` of the blocks from `first_block` on, `query` the
/// dimensions of each block in the order of the codes.
#[cube(launch)]
fn residual_kernel(
    codes: &Array<u32>,
    outlines: &Array<u32>,
    offsets: &Array<u32>,
    docs: &Array<u32>,
    query: &Array<Four<f32>>,
    table: &Array<Four<f32>>,
    constants: &Array<f32>,
    plan: &Array<u32>,
    scores: &mut Array<f32>,
    words: usize,
    centroids: usize,
    n: usize,
    first_block: usize,
    blocks: usize,
    queries: usize,
    #[comptime] bits: usize,
) {
    let position = CUBE_POS;
    if position >= n {
        terminate!();
    }
    let mut tile = new_tile();
    let mut levels = SharedMemory::<f32>::new(16usize);
    if UNIT_POS < 16 {
        levels[UNIT_POS as usize] = constants[UNIT_POS as usize];
    }
    sync_cube();

    let doc = docs[position] as usize;
    let start = offsets[doc] as usize;
    let end = offsets[doc + 1] as usize;
    let dims = words * comptime!(32 / bits);
    for block in 0..blocks {
        let mut best = Four::<f32>::new(LOWEST);
        let mut first = start;
        while first < end {
            let mut sums = new_sums();
            let mut from = 0usize;
            while from < words {
                expand(&mut tile, codes, &levels, first, end, from, words, bits);
                sync_cube();
                let dim = from * comptime!(32 / bits);
                let query_from = query_at(first_block + block, dims, dim);
                multiply(&tile, query, query_from, min((dims - dim) / 4, DEPTH_FOURS), &mut sums);
                sync_cube();
                from += comptime!(DEPTH * bits / 32);
            }
            #[unroll]
            for t in 0..UNIT_TOKENS {
                let token = token_at(first, unit_token() + comptime!(t * TOKEN_UNITS), end);
                let outline = outlines[token];
                let near = table[unit_lanes(block * centroids + (outline & 0xffff) as usize)];
                let scale = constants[16 + (outline >> 26) as usize];
                let inverse_norm = 0.5 + f32::cast_from((outline >> 16) & 1023) * comptime!(1.0 / 1024.0);
                best = max(best, (near + sums[t] * Four::new(scale)) * Four::new(inverse_norm));
            }
            first += TOKENS;
        }
        add_maxima(best, plan, scores, first_block + block, position, n, queries);
    }
}
