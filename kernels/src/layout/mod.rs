//! What lies on the device, and how it is arranged there.
//!
//! Everything is in words of 32 bits, since not all GPUs read smaller ones. [`Codec`] and [`Shard`] are made once and
//! stay; [`Queries`] and [`Table`] live as long as a search, [`Centroids`] as long as a pass over the rows they are
//! trained on, [`Coder`] as long as its [`Codec`], [`Codes`] until they are read.

mod centroids;
mod codec;
mod coder;
mod codes;
mod dense;
mod fragments;
mod guesses;
mod halves;
mod order;
mod queries;
mod shard;
mod table;

pub use centroids::Centroids;
pub use codec::{Codec, CodecParts};
pub use coder::{Coder, CoderParts};
pub use codes::Codes;
pub use dense::{DenseTokens, TokenValue};
pub(crate) use fragments::{Deal, Fragments, PLANE, PRODUCTS, STEP_PAIRS};
pub(crate) use guesses::{Guesses, HALF_BYTE, MOST_BYTE};
pub(crate) use halves::{GROUP, Halves};
pub use queries::{MAX_ROWS, Queries};
pub use shard::{Shard, ShardParts, fitting_parts};
pub use table::Table;
pub(crate) use table::TablePart;

use crate::client::GpuError;

/// An error unless `right`.
fn ensure(right: bool, wrong: impl FnOnce() -> String) -> Result<(), GpuError> {
    if right { Ok(()) } else { Err(GpuError::Mismatch(wrong())) }
}

/// Checks that kernels can handle rows of `dim` values.
fn check_dim(dim: usize) -> Result<(), GpuError> {
    let right = dim > 0 && dim.is_multiple_of(8) && dim <= latewood_simd::MAX_DIM;
    ensure(right, || format!("{dim} dimensions: a multiple of 8 up to {} is needed", latewood_simd::MAX_DIM))
}
