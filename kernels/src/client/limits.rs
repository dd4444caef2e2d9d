//! How much a device takes at once.

use cubecl::prelude::{ComputeClient, CubeCount, Runtime};

use super::GpuError;

/// Values of one allocation: kernels count in 32 bits, and a little beyond the last.
const MOST_VALUES: usize = u32::MAX as usize - (1 << 16);

/// What a device allows, asked for once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one allocation.
    pub allocation: u64,
    /// Cubes of a launch, by dimension.
    pub cubes: [u32; 3],
    /// Units of a cube.
    pub units: u32,
    /// Bytes of memory that a cube shares.
    pub shared: usize,
    /// Buffers of a kernel.
    pub buffers: u32,
}

impl Limits {
    pub(super) fn of<R: Runtime>(client: &ComputeClient<R>) -> Self {
        let properties = client.properties();
        let (x, y, z) = properties.hardware.max_cube_count;
        Self {
            allocation: properties.memory.max_page_size,
            cubes: [x, y, z],
            units: properties.hardware.max_units_per_cube,
            shared: properties.hardware.max_shared_memory_size,
            buffers: properties.hardware.max_bindings,
        }
    }

    /// Checks that `bytes` can be one allocation.
    ///
    /// # Errors
    /// When they cannot.
    pub fn check_allocation(&self, what: &'static str, bytes: u64) -> Result<(), GpuError> {
        if bytes <= self.allocation { Ok(()) } else { Err(GpuError::TooLarge { what, bytes, limit: self.allocation }) }
    }

    /// How many pieces of `words` 32-bit values one allocation holds.
    pub(crate) fn pieces(&self, words: usize) -> usize {
        let most = (self.allocation / 4).min(MOST_VALUES as u64) as usize;
        most / words.max(1)
    }

    /// Checks that `len` values can be one allocation, and that kernels, which count in 32 bits, can tell them apart.
    pub(crate) fn check_values<T>(&self, what: &'static str, len: usize) -> Result<(), GpuError> {
        if len > MOST_VALUES {
            return Err(GpuError::TooMany { what, count: len as u64, limit: MOST_VALUES as u64 });
        }
        self.check_allocation(what, (len * size_of::<T>()) as u64)
    }

    /// At least `n` cubes, in as few rows as the device allows; a kernel passes over those from `n` on.
    pub(crate) fn cube_count(&self, n: usize) -> Result<CubeCount, GpuError> {
        let [x, y, _] = self.cubes.map(|limit| limit as usize);
        let rows = n.div_ceil(x).max(1);
        if rows > y {
            return Err(GpuError::TooMany { what: "cubes", count: n as u64, limit: (x * y) as u64 });
        }
        Ok(CubeCount::Static(n.div_ceil(rows) as u32, rows as u32, 1))
    }
}
