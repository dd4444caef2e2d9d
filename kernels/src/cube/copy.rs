//! Copying: what memory gives at best, by which other kernels are judged.

use cubecl::prelude::*;

use super::Four;
use crate::client::{Buffer, Client, GpuError};

/// Units of a cube.
const UNITS: u32 = 256;

/// A copy of `values`, whose number is a multiple of 4.
///
/// # Errors
/// When their number is another, or there is no room for the copy.
pub fn copy<R: Runtime>(client: &Client<R>, values: &Buffer<f32>) -> Result<Buffer<f32>, GpuError> {
    let len = values.len();
    if !len.is_multiple_of(4) {
        return Err(GpuError::Mismatch(format!("{len} values are no multiple of 4")));
    }
    let out = client.empty("copy", len)?;
    if len > 0 {
        let cubes = client.cubes((len / 4).div_ceil(UNITS as usize))?;
        let (from, to) = (values.fours(client)?, out.fours(client)?);
        copy_kernel::launch::<R>(client.raw(), cubes, CubeDim::new_1d(UNITS), from, to, len / 4);
    }
    Ok(out)
}

#[cube(launch)]
fn copy_kernel(from: &Array<Four<f32>>, to: &mut Array<Four<f32>>, n: usize) {
    let at = CUBE_POS * UNITS as usize + UNIT_POS as usize;
    if at < n {
        to[at] = from[at];
    }
}
