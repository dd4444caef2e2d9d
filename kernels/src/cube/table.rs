//! The scores of all centroids for all query rows.

use cubecl::prelude::*;

use super::sum::unit_lanes;
use super::tile::{DEPTH, DEPTH_FOURS, expand, multiply, new_sums, new_tile, query_at, unit_token};
use super::{Four, LANES, TOKEN_UNITS, TOKENS, UNIT_TOKENS, cube_dim};
use crate::client::{Client, GpuError};
use crate::layout::{Codec, Queries, Table, TablePart};

/// The dot products of a codec's centroids with the rows of the queries, as the other kernels read them.
///
/// # Errors
/// When the queries are not of the codec's dimension, or one block of rows is too much for an allocation.
pub fn table<R: Runtime>(client: &Client<R>, codec: &Codec, queries: &Queries) -> Result<Table, GpuError> {
    let (dim, centroids) = (codec.dim(), codec.centroids());
    if dim != queries.dim() {
        return Err(GpuError::Mismatch(format!("queries of {} dimensions, centroids of {dim}", queries.dim())));
    }
    let limits = client.limits();
    let at_once = limits.pieces(centroids * LANES).clamp(1, limits.cubes[1] as usize);
    let mut parts = Vec::new();
    for first_block in (0..queries.blocks()).step_by(at_once) {
        let blocks = at_once.min(queries.blocks() - first_block);
        let values = client.empty("scores of centroids", blocks * centroids * LANES)?;
        table_kernel::launch::<R>(
            client.raw(),
            CubeCount::Static(centroids.div_ceil(TOKENS) as u32, blocks as u32, 1),
            cube_dim(),
            codec.rows().arg(client)?,
            codec.row_scales().arg(client)?,
            queries.values().fours(client)?,
            values.fours(client)?,
            dim,
            centroids,
            first_block,
        );
        parts.push(TablePart { values, first_block, blocks });
    }
    Ok(Table::new(centroids, parts))
}

/// One cube for [`TOKENS`] centroids and a block of lanes.
#[cube(launch)]
fn table_kernel(
    rows: &Array<u32>,
    scales: &Array<f32>,
    query: &Array<Four<f32>>,
    table: &mut Array<Four<f32>>,
    dim: usize,
    centroids: usize,
    first_block: usize,
) {
    let mut tile = new_tile();
    let no_levels = SharedMemory::<f32>::new(1usize);
    let first = CUBE_POS_X as usize * TOKENS;
    let block = CUBE_POS_Y as usize;
    let mut sums = new_sums();
    let mut from = 0usize;
    while from < dim {
        expand(&mut tile, rows, &no_levels, first, centroids, from / 4, dim / 4, 8usize);
        sync_cube();
        let query_from = query_at(first_block + block, dim, from);
        multiply(&tile, query, query_from, min((dim - from) / 4, DEPTH_FOURS), &mut sums);
        sync_cube();
        from += DEPTH;
    }
    #[unroll]
    for t in 0..UNIT_TOKENS {
        let row = first + unit_token() + comptime!(t * TOKEN_UNITS);
        if row < centroids {
            table[unit_lanes(block * centroids + row)] = sums[t] * Four::new(scales[row]);
        }
    }
}
