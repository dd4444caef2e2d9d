//! A device in use: memory, launches, and what failed.
//!
//! CubeCL hands launches to a thread of its own. What fails there may be silent: a launch over a limit leaves its
//! output as it was, and reading that succeeds. So limits are checked before, and [`Client::read`] asks whether all
//! went well before it returns anything ([`crate::failures`]).

mod buffer;
mod check;
mod error;
mod limits;
mod matrix;

pub use buffer::Buffer;
pub use error::GpuError;
pub use limits::Limits;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;
use cubecl::future::block_on;
use cubecl::prelude::{ComputeClient, CubeCount, Runtime};
use cubecl::server::Handle;

use crate::failures::{Fault, watched};

/// Bytes that the smallest allocation has: GPUs have no empty ones.
const LEAST_BYTES: usize = 16;

/// A connection to one device. Clones share it, and what lies in its memory; another connection does not. A thread had best drive
/// one device: what fails in silence is known by its thread.
pub struct Client<R: Runtime> {
    raw: ComputeClient<R>,
    limits: Limits,
    /// Whether the device's matrix units are used, or why not.
    matrix: Result<(), Arc<str>>,
    /// How often something failed on the device, as far as anyone asked.
    failures: Arc<AtomicU64>,
}

impl<R: Runtime> Clone for Client<R> {
    fn clone(&self) -> Self {
        let Self { raw, limits, matrix, failures } = self;
        Self { raw: raw.clone(), limits: limits.clone(), matrix: matrix.clone(), failures: failures.clone() }
    }
}

impl<R: Runtime> fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Client");
        fields.field("runtime", &self.runtime()).field("limits", &self.limits).field("matrix", &self.matrix).finish()
    }
}

impl<R: Runtime> Client<R> {
    /// Opens a device that [`crate::Device::resolve`] found, and lets it compute something whose result is known.
    ///
    /// # Errors
    /// When the device cannot be opened, is too small for the kernels, or gets the result wrong.
    pub fn connect(device: &R::Device) -> Result<Self, GpuError> {
        let connect = || {
            let raw = R::client(device);
            let mut client = Self { limits: Limits::of(&raw), raw, matrix: Ok(()), failures: Arc::default() };
            check::computes(&client)?;
            client.matrix = matrix::claimed(&client).map_err(Into::into);
            if client.matrix.is_ok() {
                client.matrix = unpanicked(|| matrix::agrees(&client)).map_err(|fault| fault.to_string().into());
            }
            // What failed there may have taken the rest with it.
            if client.matrix.is_err() { check::computes(&client).map(|()| client) } else { Ok(client) }
        };
        let unusable = |fault: Fault| GpuError::Unusable { device: format!("{device:?}"), reason: fault.to_string() };
        unpanicked(connect).map_err(unusable)
    }

    /// The same device, as if it allowed no allocation over so many bytes: for tests of what is split where one is not
    /// enough.
    pub fn with_allocations_up_to(mut self, bytes: u64) -> Self {
        self.limits.allocation = self.limits.allocation.min(bytes);
        self
    }

    /// The same device, as if it had no matrix units: to compare.
    pub fn without_matrix_units(mut self) -> Self {
        self.matrix = Err("they were not asked for".into());
        self
    }

    /// Whether the device has matrix units (tensor cores) and planes of 32 units and, when it was opened, they got right what
    /// it gets right without: then they score by codes and by outlines, and find nearest centroids. If not, why, for people.
    ///
    /// # Errors
    /// When they are not used.
    pub fn matrix_units(&self) -> Result<(), &str> {
        self.matrix.as_ref().map_err(|reason| &**reason).copied()
    }

    /// What runs the kernels, for people: `wgpu<wgsl>`, `cuda`.
    pub fn runtime(&self) -> &'static str {
        R::name(&self.raw)
    }

    /// What the device allows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Copies `values` to the device, to stay: they get an allocation of their own. `what` names them in errors.
    ///
    /// # Errors
    /// When they are more than one allocation may hold. That memory ran out shows in [`Client::check`].
    pub fn keep<T: Pod>(&self, what: &'static str, values: &[T]) -> Result<Buffer<T>, GpuError> {
        self.limits.check_values::<T>(what, values.len())?;
        let bytes = bytemuck::cast_slice(values);
        let kept = self.raw.memory_persistent_allocation((), |()| self.create(bytes));
        let handle = kept.map_err(|error| GpuError::Failed(error.to_string()))?;
        Ok(self.buffer(handle, values.len()))
    }

    /// Copies `values` to the device, for a while: their memory is one of many pieces that are used again.
    ///
    /// # Errors
    /// As [`Client::keep`].
    pub fn upload<T: Pod>(&self, what: &'static str, values: &[T]) -> Result<Buffer<T>, GpuError> {
        self.limits.check_values::<T>(what, values.len())?;
        Ok(self.buffer(self.create(bytemuck::cast_slice(values)), values.len()))
    }

    fn create(&self, bytes: &[u8]) -> Handle {
        if bytes.len() < LEAST_BYTES {
            let mut padded = [0; LEAST_BYTES];
            padded[..bytes.len()].copy_from_slice(bytes);
            self.raw.create_from_slice(&padded)
        } else {
            self.raw.create_from_slice(bytes)
        }
    }

    /// Room for `len` values, whatever they are now.
    ///
    /// # Errors
    /// As [`Client::keep`].
    pub(crate) fn empty<T: Pod>(&self, what: &'static str, len: usize) -> Result<Buffer<T>, GpuError> {
        self.limits.check_values::<T>(what, len)?;
        Ok(self.buffer(self.raw.empty((len * size_of::<T>()).max(LEAST_BYTES)), len))
    }

    /// Waits for all that this thread has launched.
    ///
    /// # Errors
    /// When any of it failed. What was to be computed until now then counts as lost: it cannot be read any more.
    pub fn check(&self) -> Result<(), GpuError> {
        self.noted(|| block_on(self.raw.sync()).map_err(|error| error.to_string()))
    }

    /// Copies a buffer back, after all that this thread, which is the one that computes it, has launched.
    ///
    /// # Errors
    /// When anything launched since the buffer was made has failed: it may not hold what it should.
    pub fn read<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Vec<T>, GpuError> {
        Ok(self.read_all(&[buffer])?.remove(0))
    }

    /// Copies buffers back together, which takes the wait for one.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn read_all<T: Pod>(&self, buffers: &[&Buffer<T>]) -> Result<Vec<Vec<T>>, GpuError> {
        self.check()?;
        for buffer in buffers {
            self.check_buffer(buffer)?;
            if buffer.is_lost() {
                return Err(GpuError::Failed("it has failed since this buffer was made".into()));
            }
        }
        let handles = buffers.iter().map(|buffer| buffer.handle().clone()).collect();
        let read = self.noted(|| block_on(self.raw.read_async(handles)).map_err(|error| error.to_string()))?;
        let values = read.iter().zip(buffers).map(|(bytes, buffer)| {
            let mut values = vec![T::zeroed(); buffer.len()];
            bytemuck::cast_slice_mut(&mut values).copy_from_slice(&bytes[..buffer.len() * size_of::<T>()]);
            values
        });
        Ok(values.collect())
    }

    /// Runs `act`, and counts it if it fails.
    fn noted<T>(&self, act: impl FnOnce() -> Result<T, String>) -> Result<T, GpuError> {
        unpanicked(act).map_err(|fault| {
            self.failures.fetch_add(1, Ordering::SeqCst);
            fault.into()
        })
    }

    fn buffer<T>(&self, handle: Handle, len: usize) -> Buffer<T> {
        Buffer::new(handle, len, &self.failures)
    }

    fn check_buffer<T>(&self, buffer: &Buffer<T>) -> Result<(), GpuError> {
        buffer.check_connection(&self.failures)
    }

    /// How much of the device's memory buffers take that were made on this thread.
    ///
    /// # Errors
    /// When the device does not answer.
    pub fn memory(&self) -> Result<Memory, GpuError> {
        let usage = self.noted(|| self.raw.memory_usage().map_err(|error| error.to_string()))?;
        Ok(Memory { used: usage.bytes_in_use, reserved: usage.bytes_reserved })
    }

    /// Gives the memory of buffers that were made on this thread and are no more back to the device. Otherwise it is
    /// held for new ones of the same size.
    ///
    /// # Errors
    /// As [`Client::check`].
    pub fn release(&self) -> Result<(), GpuError> {
        self.check()?;
        self.raw.memory_cleanup();
        self.check()
    }

    pub(crate) fn raw(&self) -> &ComputeClient<R> {
        &self.raw
    }

    /// [`Limits::cube_count`] of this device.
    pub(crate) fn cubes(&self, n: usize) -> Result<CubeCount, GpuError> {
        self.limits.cube_count(n)
    }
}

/// Bytes of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// In buffers.
    pub used: u64,
    /// In buffers and held for others.
    pub reserved: u64,
}

/// Runs `act`; a panic is an error, and so is what failed silently. CubeCL panics where a driver or its compiler is not as it
/// expects.
fn unpanicked<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, Fault> {
    watched(act)?.map_err(|reason| Fault::of(&reason))
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use super::*;
    use crate::Device;
    use burn_wgpu::WgpuRuntime;

    #[allow(clippy::print_stderr, reason = "a test says what it skips")]
    pub(super) fn gpu() -> Option<burn_wgpu::WgpuDevice> {
        let gpu = Device::Wgpu(0).resolve().ok().and_then(|gpu| gpu.wgpu());
        assert!(
            gpu.is_some() || !std::env::var("LATEWOOD_REQUIRE_GPU_TESTS").is_ok_and(|x| x.contains("wgpu")),
            "no GPU"
        );
        if gpu.is_none() {
            eprintln!("NOT TESTED, there is no GPU");
        }
        gpu
    }

    #[test]
    fn what_failed_is_not_read() {
        let Some(gpu) = gpu() else { return };
        let client = Client::<WgpuRuntime>::connect(&gpu).unwrap();
        let before = client.upload("numbers", &[1u32, 2]).unwrap();
        crate::cube::launch_too_large(&client, &before);
        assert!(matches!(client.read(&before), Err(GpuError::Failed(_))));
        assert!(matches!(client.read(&before), Err(GpuError::Failed(_))), "it was not computed the second time either");
        let after = client.upload("numbers", &[1u32, 2]).unwrap();
        assert_eq!(client.read(&after).unwrap(), [1, 2], "the device goes on working");
    }

    #[test]
    fn buffers_of_another_connection_are_refused() {
        let Some(gpu) = gpu() else { return };
        let [one, other] = [(); 2].map(|()| Client::<WgpuRuntime>::connect(&gpu).unwrap());
        let scores = one.upload("scores", &[1.0f32, 2.0]).unwrap();
        assert!(matches!(other.read(&scores), Err(GpuError::Mismatch(_))));
        assert!(matches!(crate::cube::top(&other, &scores, 2, 1), Err(GpuError::Mismatch(_))));
        assert!(crate::cube::top(&one.clone(), &scores, 2, 1).is_ok());
    }
}
