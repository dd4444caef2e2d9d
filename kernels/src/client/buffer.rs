//! Memory on a device.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cubecl::prelude::{ArrayArg, Runtime};
use cubecl::server::Handle;

use super::{Client, GpuError};
use crate::raw::array_arg;

/// `[len]` values of type `T` in the memory of a device. Cloning shares them; the last clone gives them back.
#[derive(Debug, Clone)]
pub struct Buffer<T> {
    handle: Handle,
    len: usize,
    /// How often the device has failed, which also tells the connection; and how often it had when this was made.
    failures: Arc<AtomicU64>,
    failed_before: u64,
    of: PhantomData<T>,
}

impl<T> Buffer<T> {
    pub(super) fn new(handle: Handle, len: usize, failures: &Arc<AtomicU64>) -> Self {
        let failed_before = failures.load(Ordering::SeqCst);
        Self { handle, len, failures: failures.clone(), failed_before, of: PhantomData }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.handle.size_in_used()
    }

    /// Checks that this is a buffer of the connection that counts in `failures`.
    pub(super) fn check_connection(&self, failures: &Arc<AtomicU64>) -> Result<(), GpuError> {
        let same = Arc::ptr_eq(&self.failures, failures);
        if same { Ok(()) } else { Err(GpuError::Mismatch("a buffer of another connection to a device".into())) }
    }

    /// Whether the device has failed since this was made.
    pub(super) fn is_lost(&self) -> bool {
        self.failures.load(Ordering::SeqCst) != self.failed_before
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The values as a kernel's argument.
    pub(crate) fn arg<R: Runtime>(&self, client: &Client<R>) -> Result<ArrayArg<R>, GpuError> {
        client.check_buffer(self)?;
        Ok(array_arg(&self.handle, self.len, size_of::<T>()))
    }

    /// The values, four at a time, as a kernel's argument.
    pub(crate) fn fours<R: Runtime>(&self, client: &Client<R>) -> Result<ArrayArg<R>, GpuError> {
        self.vectors(client, 4)
    }

    /// The values, `width` at a time, as a kernel's argument.
    pub(crate) fn vectors<R: Runtime>(&self, client: &Client<R>, width: usize) -> Result<ArrayArg<R>, GpuError> {
        client.check_buffer(self)?;
        // CubeCL counts an array of vectors in vectors.
        Ok(array_arg(&self.handle, self.len / width, width * size_of::<T>()))
    }
}
