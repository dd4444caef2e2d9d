//! Where a network computes, and in which numbers.

use std::fmt;

use burn_flex::Flex;

#[cfg(feature = "gpu")]
use crate::driver;
use crate::error::Result;
use crate::network::{Load, Run};
#[cfg(feature = "gpu")]
use crate::ops::Gpu;
use crate::ops::Precision;

/// Where a network computes.
///
/// A GPU must be there: the crate `latewood-kernels` looks for one and says what is missing. What still fails on it is an
/// error, though the libraries below may have written of a panic to the standard error by then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EncoderDevice {
    /// The processor, on the threads of the current rayon pool.
    #[default]
    Cpu,
    /// A GPU through wgpu: Vulkan, Metal or DirectX 12.
    #[cfg(feature = "wgpu")]
    Wgpu(burn_wgpu::WgpuDevice),
    /// A GPU through CUDA.
    #[cfg(feature = "cuda")]
    Cuda(burn_cuda::CudaDevice),
}

impl fmt::Display for EncoderDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("the processor"),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(device) => write!(f, "the GPU {device:?} of wgpu"),
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => write!(f, "the GPU {} of CUDA", device.index),
        }
    }
}

/// How a network is loaded: where it computes, and in which numbers. A [`Precision`] alone is the processor's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Compute {
    /// Where.
    pub device: EncoderDevice,
    /// In which numbers.
    pub precision: Precision,
}

impl Compute {
    /// On `device`, in numbers that suit it.
    pub fn on(device: EncoderDevice) -> Self {
        Self { device, precision: Precision::Auto }
    }

    /// In numbers of `precision`.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }
}

impl From<Precision> for Compute {
    fn from(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }
}

impl From<EncoderDevice> for Compute {
    fn from(device: EncoderDevice) -> Self {
        Self::on(device)
    }
}

impl Compute {
    /// Loads a network.
    pub(crate) fn load<L: Load>(&self, from: &L) -> Result<Box<dyn Run<L::Made>>> {
        let (name, precision) = (&self.device.to_string(), self.precision);
        match &self.device {
            EncoderDevice::Cpu => from.load::<Flex>(precision, &Default::default(), name),
            #[cfg(feature = "wgpu")]
            EncoderDevice::Wgpu(device) => {
                driver::load(name, || from.load::<Gpu<cubecl::wgpu::WgpuRuntime>>(precision, device, name))
            }
            #[cfg(feature = "cuda")]
            EncoderDevice::Cuda(device) => {
                driver::load(name, || from.load::<Gpu<cubecl::cuda::CudaRuntime>>(precision, device, name))
            }
        }
    }
}
