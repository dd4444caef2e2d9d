//! CPU kernels of Latewood, over plain slices.
//!
//! Late interaction spends its time in one shape of work: every row of a query against every token of
//! many documents, `[q, d] x [n, d]`, followed by a maximum over the tokens. All kernels here put the
//! *query rows in the SIMD lanes* (the query is transposed once, [`QueryF32`] and [`QueryI8`]) and
//! broadcast the document's values, so that the maximum over tokens is a lane-wise maximum: no
//! horizontal reduction, documents stay row-major, and their ragged lengths cost nothing.
//!
//! Each kernel exists as a plain scalar function, which is its specification, and as twins for
//! instruction sets. [`Kernels::detect`] picks the best set once; [`Kernels::for_isa`] asks for one by
//! name (tests tie the twins together). The integer part of [`Kernels::byte_dots`] and
//! [`Kernels::max_residual_dots`] is exact and their float part is evaluated in the same order everywhere, so all twins
//! return the same bits; the f32 kernels differ by rounding only (fused multiply-add or not).
//!
//! An encoder's forward pass is the other shape of work: linear layers, attention and what lies between them, in f32 or
//! in bytes ([`TransformerKernels`]).
//!
//! Miri interprets the scalar and the AVX2 kernels, in some minutes, and finds what they would read or write out of
//! bounds (of AVX-512 it lacks the shift by which codes are expanded; `byte_dots` and `quantis` run):
//!
//! ```sh
//! MIRIFLAGS=-Zmiri-disable-isolation RUSTFLAGS='-C target-feature=+avx2,+fma' \
//!     cargo +nightly miri test -p latewood-simd --tests
//! ```
#![allow(unsafe_code, reason = "instruction-set intrinsics; each block states why it is sound")]

mod decode;
mod dispatch;
mod estimate;
mod largest;
mod prefetch;
mod quantise;
mod query;
mod residual;
mod scalar;
mod scratch;
mod transformer;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

pub use decode::FineSteps;
pub use dispatch::{Isa, Kernels};
pub use estimate::Estimates;
pub use largest::LARGEST;
pub use prefetch::prefetch;
pub use quantise::{LevelTable, Quantised};
pub use query::{LANES, QueryF32, QueryI8, QueryI16, RowsI8};
pub use residual::{
    FINE_BITS, FINE_MIDDLE, LEVEL_OFFSET, MAX_DIM, MAX_LEVEL, ResidualTokens, SCALES, code_bytes, pack_codes,
    pack_factors, unpack_codes, unpack_factors,
};
pub use scratch::Scratch;
pub use transformer::{
    Activation, AttentionScratch, Block, ByteRows, Heads, MatrixF32, MatrixI8, Sight, TransformerKernels,
};
