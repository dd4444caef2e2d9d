//! Every kernel, on every GPU there is, against a plain reference in `f64` and against the processor's kernels.
//!
//! A software adapter is a GPU here (on Linux lavapipe: Debian's package `mesa-vulkan-drivers`). Where there is none,
//! each test says that it tests nothing; with `LATEWOOD_REQUIRE_GPU_TESTS=wgpu,cuda` it fails if one is missing.
#![cfg(any(feature = "wgpu", feature = "cuda"))]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

mod building;
mod client;
mod coded;
mod coding;
mod dense;
mod failing;
mod gpus;
mod nearest;
mod reference;
mod searching;
mod top;
