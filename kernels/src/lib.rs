//! GPU kernels of Latewood: late interaction on wgpu (Vulkan, Metal, DirectX 12) and CUDA, one source for all.
//!
//! [`Device`] says where to compute; resolving it finds what there is and never panics. With the features `wgpu` and
//! `cuda` there is more to this crate: a `Client` of a device, buffers on it, and the kernels, which are generic over
//! CubeCL's `Runtime`. Each is the twin of a scalar function of `latewood-simd`, up to the rounding of floats: a
//! query's rows are `f32` here, or of 11 bits for matrix units, where the processor takes bytes.
//!
//! | kernel | what it computes |
//! | --- | --- |
//! | `table` | all centroids by all query rows, `[c, lanes]` |
//! | `outline` | documents by their tokens' centroids and scales only |
//! | `residual` | documents by their packed codes; with matrix units (tensor cores) where a device has them |
//! | `dense` | documents that are not compressed, `f32` or `f16` |
//! | `top` | the best of many scores |
//! | `rotate` | rows in the space of a codec's centroids |
//! | `nearest` | for rows that are to be coded or trained on, which centroid each is nearest to |
//! | `encode` | the codes of rows: both of these, then residuals in a few bits |
//! | `copy` | nothing: how fast memory is |
//!
//! A launch returns at once; what failed on the device shows when something is read back (`Client::read`). Each thread
//! has a queue and free memory of its own: a search belongs on one thread, and what is kept for many searches had best
//! be made and dropped on one.

mod device;

#[cfg(feature = "gpu")]
mod backend;
#[cfg(feature = "gpu")]
mod client;
#[cfg(feature = "gpu")]
mod cube;
#[cfg(feature = "gpu")]
pub mod failures;
#[cfg(feature = "gpu")]
mod layout;
#[cfg(feature = "gpu")]
mod raw;

pub use device::{Adapter, Device, DeviceError, Found, Kind, Missing, Resolved, found};

#[cfg(feature = "gpu")]
pub use backend::{GpuBackend, GpuOptions, GpuStatus};
#[cfg(feature = "gpu")]
pub use client::{Buffer, Client, GpuError, Limits, Memory};
#[cfg(feature = "gpu")]
pub use cube::{BestOfRows, LANES, MAX_TOP, Top, copy, dense, encode, nearest, outline, residual, rotate, table, top};
#[cfg(feature = "gpu")]
pub use layout::{
    Centroids, Codec, CodecParts, Coder, CoderParts, Codes, DenseTokens, MAX_ROWS, Queries, Shard, ShardParts, Table,
    TokenValue, fitting_parts,
};
