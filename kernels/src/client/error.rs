//! What goes wrong on a device.

use crate::device::Resolved;
use crate::failures::Fault;

/// Why the GPU gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The device could not be opened, or computes wrongly.
    #[error("the GPU {device} cannot be used: {reason}")]
    Unusable {
        /// The device.
        device: String,
        /// What went wrong.
        reason: String,
    },
    /// One allocation larger than the device allows.
    #[error(
        "{what} need {bytes} bytes in one piece, and this GPU gives {limit} at most: use smaller shards or batches"
    )]
    TooLarge {
        /// What was to be allocated.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The device's largest allocation.
        limit: u64,
    },
    /// More work at once than the device takes.
    #[error("{what}: {count} at once, and this GPU takes {limit} at most")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        count: u64,
        /// The device's limit.
        limit: u64,
    },
    /// Arguments that do not belong together.
    #[error("{0}")]
    Mismatch(String),
    /// The device has no memory left: there is no result, and with less on it there would be one.
    #[error("the GPU failed: {0}")]
    Full(Fault),
    /// The device failed while it computed: there is no result.
    #[error("the GPU failed: {0}")]
    Failed(String),
}

impl GpuError {
    /// With the name that the user knows the device by.
    pub(crate) fn of(self, resolved: &Resolved) -> Self {
        match (self, &resolved.adapter) {
            (Self::Unusable { reason, .. }, Some(adapter)) => Self::Unusable { device: adapter.to_string(), reason },
            (error, _) => error,
        }
    }
}

impl From<Fault> for GpuError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full { .. } => Self::Full(fault),
            Fault::Other(reason) => Self::Failed(reason),
        }
    }
}
