//! Which centroid a row has the largest dot product with.
//!
//! Here the rows are the tokens of a tile and the centroids lie in the lanes, so that rows stay as they come. A cube
//! keeps 32 rows and goes through all centroids: each unit remembers the best of its own lanes for its 4 rows, and at
//! the end the eight units that share a row choose. Nothing but the answer is written.

use cubecl::prelude::*;

use super::nearest_matrix::nearest_matrix;
use super::tile::{new_sums, new_tile, products, unit_token};
use super::{Four, LANE_UNITS, LANES, TOKEN_UNITS, TOKENS, UNIT_LANES, UNIT_TOKENS, cube_dim};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::Centroids;

/// For each of `rows` `[n, dim]`, about as long as 1, the centroid with the largest dot product, of equals
/// the first, into `[n]`. Products are summed in `f32`.
///
/// Where the device has matrix units, rows have up to 128 dimensions and centroids no value over 65,504, both are rounded
/// to halves; see [`Client::matrix_units`].
///
/// # Errors
/// When the values are no rows of the centroids' dimension, or they are too many for one launch.
pub fn nearest<R: Runtime>(
    client: &Client<R>,
    centroids: &Centroids,
    rows: &Buffer<f32>,
) -> Result<Buffer<u32>, GpuError> {
    if client.matrix_units().is_ok() && !centroids.halves().is_empty() {
        return nearest_matrix(client, centroids, centroids.halves(), rows);
    }
    let n = centroids.rows_of(rows.len())?;
    let (best, dots) = (client.empty("nearest centroids", n)?, client.empty::<f32>("their products", n)?);
    if n == 0 {
        return Ok(best);
    }
    for (number, part) in centroids.parts().iter().enumerate() {
        nearest_kernel::launch::<R>(
            client.raw(),
            client.cubes(n.div_ceil(TOKENS))?,
            cube_dim(),
            rows.fours(client)?,
            part.values.fours(client)?,
            dots.arg(client)?,
            best.arg(client)?,
            centroids.dim(),
            n,
            part.blocks,
            part.first,
            number > 0,
        );
    }
    Ok(best)
}

/// One cube for [`TOKENS`] rows. `centroids` are `[blocks, dim, LANES]`, the first of them number `first_centroid`.
/// Where it `goes_on`, `dots` and `best` hold what the centroids before these have come to.
#[cube(launch)]
fn nearest_kernel(
    rows: &Array<Four<f32>>,
    centroids: &Array<Four<f32>>,
    dots: &mut Array<f32>,
    best: &mut Array<u32>,
    dim: usize,
    n: usize,
    blocks: usize,
    first_centroid: usize,
    #[comptime] goes_on: bool,
) {
    let first = CUBE_POS * TOKENS;
    if first >= n {
        terminate!();
    }
    let mut tile = new_tile();
    let mut unit_dots = Array::<f32>::new(UNIT_TOKENS);
    let mut unit_ids = Array::<u32>::new(UNIT_TOKENS);
    #[unroll]
    for t in 0..UNIT_TOKENS {
        unit_dots[t] = f32::MIN;
        unit_ids[t] = 0;
    }
    for block in 0..blocks {
        let mut sums = new_sums();
        products::<f32>(&mut tile, rows, first, n, centroids, block, dim, &mut sums);
        let id = (first_centroid + block * LANES + UNIT_POS_X as usize * UNIT_LANES) as u32;
        #[unroll]
        for t in 0..UNIT_TOKENS {
            #[unroll]
            for lane in 0..UNIT_LANES {
                let dot = sums[t][lane];
                let wins = dot > unit_dots[t];
                unit_dots[t] = select(wins, dot, unit_dots[t]);
                unit_ids[t] = select(wins, id + comptime!(lane as u32), unit_ids[t]);
            }
        }
    }

    let mut all_dots = SharedMemory::<f32>::new(comptime!(TOKENS * LANE_UNITS));
    let mut all_ids = SharedMemory::<u32>::new(comptime!(TOKENS * LANE_UNITS));
    #[unroll]
    for t in 0..UNIT_TOKENS {
        let at = (unit_token() + comptime!(t * TOKEN_UNITS)) * LANE_UNITS + UNIT_POS_X as usize;
        all_dots[at] = unit_dots[t];
        all_ids[at] = unit_ids[t];
    }
    sync_cube();
    let unit = UNIT_POS as usize;
    if unit < TOKENS && first + unit < n {
        let mut dot = all_dots[unit * LANE_UNITS];
        let mut id = all_ids[unit * LANE_UNITS];
        #[unroll]
        for i in 1..LANE_UNITS {
            let other = all_dots[unit * LANE_UNITS + i];
            let other_id = all_ids[unit * LANE_UNITS + i];
            let wins = other > dot || (other == dot && other_id < id);
            dot = select(wins, other, dot);
            id = select(wins, other_id, id);
        }
        if comptime!(goes_on) {
            // Those before come first among equals.
            let before = dots[first + unit];
            id = select(before >= dot, best[first + unit], id);
            dot = max(before, dot);
        }
        dots[first + unit] = dot;
        best[first + unit] = id;
    }
}
