//! Rows turned into the space that a codec's centroids are in.

use cubecl::prelude::*;

use super::sum::unit_lanes;
use super::tile::{new_sums, new_tile, products, unit_token};
use super::{Four, TOKEN_UNITS, TOKENS, UNIT_TOKENS, cube_dim};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::Coder;

/// `rows` `[n, d]` rotated, `[n, d]`.
///
/// # Errors
/// When the values are no rows of the coder's dimension, or they are too many for one launch.
pub fn rotate<R: Runtime>(client: &Client<R>, coder: &Coder, rows: &Buffer<f32>) -> Result<Buffer<f32>, GpuError> {
    let n = coder.rotation().rows_of(rows.len())?;
    let rotated = client.empty("rotated rows", rows.len())?;
    if n == 0 {
        return Ok(rotated);
    }
    for part in coder.rotation().parts() {
        rotate_kernel::launch::<R>(
            client.raw(),
            client.cubes(n.div_ceil(TOKENS) * part.blocks)?,
            cube_dim(),
            rows.fours(client)?,
            part.values.fours(client)?,
            rotated.fours(client)?,
            coder.dim(),
            n,
            part.blocks,
            part.first,
        );
    }
    Ok(rotated)
}

/// One cube for [`TOKENS`] rows and a block of `rotation`, `[blocks, dim, LANES]`, whose first gives dimension
/// `first_dim` and those after it. Neighbouring cubes share their rows.
#[cube(launch)]
fn rotate_kernel(
    rows: &Array<Four<f32>>,
    rotation: &Array<Four<f32>>,
    rotated: &mut Array<Four<f32>>,
    dim: usize,
    n: usize,
    blocks: usize,
    first_dim: usize,
) {
    let first = CUBE_POS / blocks * TOKENS;
    let block = CUBE_POS % blocks;
    if first >= n {
        terminate!();
    }
    let mut tile = new_tile();
    let mut sums = new_sums();
    products::<f32>(&mut tile, rows, first, n, rotation, block, dim, &mut sums);
    let four = first_dim / 4 + unit_lanes(block);
    if four < dim / 4 {
        #[unroll]
        for t in 0..UNIT_TOKENS {
            let row = first + unit_token() + comptime!(t * TOKEN_UNITS);
            if row < n {
                rotated[row * (dim / 4) + four] = sums[t];
            }
        }
    }
}
