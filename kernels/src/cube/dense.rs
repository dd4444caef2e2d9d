//! MaxSim of documents that are not compressed.

use cubecl::prelude::*;

use super::sum::add_maxima;
use super::tile::{new_sums, new_tile, products};
use super::{Four, LOWEST, TOKENS, UNIT_TOKENS, cube_dim};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::{DenseTokens, Queries, TokenValue};

/// Scores documents, given by their positions `[n]`: for each query and document the sum, over the query's rows, of the
/// largest dot product with a token. Products are summed in `f32`, whatever tokens are stored as. Into `[queries, n]`.
///
/// # Errors
/// When queries and tokens are not of one dimension; when the scores do not fit one allocation.
pub fn dense<R: Runtime, F: TokenValue>(
    client: &Client<R>,
    tokens: &DenseTokens<F>,
    queries: &Queries,
    docs: &Buffer<u32>,
) -> Result<Buffer<f32>, GpuError> {
    let dim = tokens.dim();
    if dim != queries.dim() {
        return Err(GpuError::Mismatch(format!("queries of {} dimensions, tokens of {dim}", queries.dim())));
    }
    let scores = client.empty("scores", queries.len() * docs.len())?;
    if !docs.is_empty() {
        dense_kernel::launch::<F, R>(
            client.raw(),
            client.cubes(docs.len())?,
            cube_dim(),
            tokens.values().fours(client)?,
            tokens.offsets().arg(client)?,
            docs.arg(client)?,
            queries.values().fours(client)?,
            queries.plan().arg(client)?,
            scores.arg(client)?,
            dim,
            docs.len(),
            queries.blocks(),
            queries.len(),
        );
    }
    Ok(scores)
}

/// One cube a document.
#[cube(launch)]
fn dense_kernel<F: Float>(
    tokens: &Array<Four<F>>,
    offsets: &Array<u32>,
    docs: &Array<u32>,
    query: &Array<Four<f32>>,
    plan: &Array<u32>,
    scores: &mut Array<f32>,
    dim: usize,
    n: usize,
    blocks: usize,
    queries: usize,
) {
    let position = CUBE_POS;
    if position >= n {
        terminate!();
    }
    let mut tile = new_tile();
    let doc = docs[position] as usize;
    let start = offsets[doc] as usize;
    let end = offsets[doc + 1] as usize;
    for block in 0..blocks {
        let mut best = Four::<f32>::new(LOWEST);
        let mut first = start;
        while first < end {
            let mut sums = new_sums();
            products::<F>(&mut tile, tokens, first, end, query, block, dim, &mut sums);
            #[unroll]
            for t in 0..UNIT_TOKENS {
                best = max(best, sums[t]);
            }
            first += TOKENS;
        }
        add_maxima(best, plan, scores, block, position, n, queries);
    }
}
