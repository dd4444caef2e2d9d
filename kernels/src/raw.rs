//! All that the compiler cannot check: a buffer's length, and the calls of the CUDA driver that come before CubeCL's.
#![allow(unsafe_code, reason = "each block states why it is sound")]

use cubecl::prelude::{ArrayArg, Runtime};
use cubecl::server::Handle;

/// `length` elements of the kernel's type as its argument.
///
/// # Panics
/// When the allocation has fewer bytes than `length` elements of `size` bytes.
pub(crate) fn array_arg<R: Runtime>(handle: &Handle, length: usize, size: usize) -> ArrayArg<R> {
    assert!((length * size) as u64 <= handle.size_in_used(), "{length} elements of {size} bytes");
    // SAFETY: the allocation holds that many elements, as was just checked.
    unsafe { ArrayArg::from_raw_parts(handle.clone(), length) }
}

/// Whether the CUDA driver's library can be loaded.
#[cfg(feature = "cuda")]
pub(crate) fn cuda_driver_present() -> bool {
    // SAFETY: loads the driver's library, which has no requirements, and calls nothing in it.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// Whether the library of CUDA's run-time compiler can be loaded.
#[cfg(feature = "cuda")]
pub(crate) fn cuda_compiler_present() -> bool {
    // SAFETY: loads the compiler's library, which has no requirements, and calls nothing in it.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}

/// Bytes of memory of CUDA device `index`, where the driver, which is initialised, tells.
#[cfg(feature = "cuda")]
pub(crate) fn cuda_memory(index: i32) -> Option<u64> {
    let device = cudarc::driver::result::device::get(index).ok()?;
    // SAFETY: the driver just handed out this device.
    unsafe { cudarc::driver::result::device::total_mem(device) }.ok().map(|bytes| bytes as u64)
}
