//! The kernels, one file each: the code that runs on the GPU, and above it the function that launches it.
//!
//! All that score, but for [`top`] and those for planes (`matrix.rs`, `sketch.rs`, `nearest_matrix.rs`), share one shape. A
//! *cube* (CUDA: thread block) of [`UNITS`] units takes one document and, one after another, the blocks of [`LANES`] query rows. Of each block it
//! holds a tile of [`TOKENS`] tokens by [`LANES`] lanes in registers, [`UNIT_TOKENS`] tokens by 4 lanes a unit: a value
//! that is read meets 4 others, as in a matrix product. The maximum over tokens then stays in the lanes, and ragged
//! documents cost no more than the rest of their last tile. That rest repeats the document's last token, which changes
//! no maximum.
//!
//! Lanes are the rows of all queries of a batch end to end, so that a document is read from memory once for all of
//! them: what the second block of lanes needs of it is still in the cache.
//!
//! What codes rows uses the same tile: a cube takes 32 rows in the place of tokens, and centroids, or the rows of a
//! rotation, lie in the lanes ([`nearest()`], [`rotate()`]). Choosing codes is a unit's work, row by row ([`encode`]).

mod copy;
mod dense;
mod matrix;
mod narrow;
mod nearest;
mod nearest_matrix;
mod outline;
mod quantise;
mod residual;
mod rotate;
mod select;
mod sketch;
mod sum;
mod table;
mod tile;
mod top;

pub use copy::copy;
pub use dense::dense;
pub(crate) use matrix::{BUFFERS as MATRIX_BUFFERS, PLANES, SHARED as MATRIX_SHARED};
pub use nearest::nearest;
pub use outline::outline;
pub use quantise::encode;
pub use residual::residual;
pub use rotate::rotate;
pub use table::table;
#[cfg(all(test, feature = "wgpu"))]
pub(crate) use top::launch_too_large;
pub use top::{BestOfRows, MAX_TOP, Top, top};

use cubecl::prelude::*;

/// Query rows that a cube scores at a time. Lanes are padded to a multiple of it.
pub const LANES: usize = 32;
/// Tokens that a cube scores at a time.
pub(crate) const TOKENS: usize = 32;
/// Lanes that a unit holds: one vector.
pub(crate) const UNIT_LANES: usize = 4;
/// Tokens that a unit holds.
pub(crate) const UNIT_TOKENS: usize = 4;
/// Units side by side over the lanes.
pub(crate) const LANE_UNITS: usize = LANES / UNIT_LANES;
/// Units side by side over the tokens.
pub(crate) const TOKEN_UNITS: usize = TOKENS / UNIT_TOKENS;
/// Units of a cube.
pub(crate) const UNITS: usize = LANE_UNITS * TOKEN_UNITS;

/// Most units of a cube, of all kernels.
pub(crate) const MOST_UNITS: usize = top::UNITS;
/// Most bytes of shared memory, of all kernels.
pub(crate) const MOST_SHARED: usize = top::SHARED;
/// Most buffers, of all kernels, and one for sizes.
pub(crate) const MOST_BUFFERS: usize = 10;

/// What a row scores in a document without tokens: lower than any product, and a sum of many is finite still.
pub(crate) const LOWEST: f32 = -1.0e30;

/// Four values that are read together.
pub(crate) type Four<T> = Vector<T, Const<4>>;

/// The cube that all but [`top`] and those for planes run in.
pub(crate) fn cube_dim() -> CubeDim {
    CubeDim::new_2d(LANE_UNITS as u32, TOKEN_UNITS as u32)
}
