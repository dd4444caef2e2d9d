//! Where to compute: a choice, resolved once.
//!
//! A device that is named must be there. Only [`Device::Auto`] may fall back to the processor, and says why.

#[cfg(feature = "cuda")]
mod cuda;
mod found;
mod name;
mod resolve;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use found::{Adapter, Found, Kind, Missing, found};
pub use name::Device;
pub use resolve::{DeviceError, Resolved};
