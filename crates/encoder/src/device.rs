//! Where a network computes, and in which numbers.

use std::fmt;
use std::sync::Arc;

use burn_flex::Flex;

#[cfg(feature = "gpu")]
use crate::driver::{self, LoadElsewhere};
#[cfg(feature = "gpu")]
use crate::error::Error;
use crate::error::Result;
use crate::network::{Load, Run};
#[cfg(feature = "gpu")]
use crate::ops::Gpu;
use crate::ops::Precision;

/// Where a network computes.
///
/// A GPU must be there: the crate `latewood-kernels` looks for one and says what is missing. What still fails on it is an
/// error, for which a hook for panics is set (`latewood_kernels::failures`).
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
            Self::Wgpu(device) => write!(f, "wgpu ({device:?})"),
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => write!(f, "cuda:{}", device.index),
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
    /// What errors call the device, if not as it is displayed.
    pub name: Option<String>,
    /// Whether the processor takes over for good when the device fails, then or later; otherwise that is an error.
    pub falls_back: bool,
}

impl Compute {
    /// On `device`, in numbers that suit it.
    pub fn on(device: EncoderDevice) -> Self {
        Self { device, ..Self::default() }
    }

    /// In numbers of `precision`.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// With a `name` for the device, which people know it by.
    pub fn called(self, name: String) -> Self {
        Self { name: Some(name), ..self }
    }

    /// On the processor, for good, when the device fails: it logs a warning. The model's files stay in memory for that. What the
    /// processor does not compute in, half precision, is then left for what suits it.
    pub fn or_processor(self) -> Self {
        Self { falls_back: true, ..self }
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
    /// What errors call the device.
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.device.to_string())
    }

    /// What `load` makes of this, or, if the device fails and that is enough, of the processor.
    pub(crate) fn or_else<T>(&self, load: impl Fn(&Self) -> Result<T>) -> Result<T> {
        match load(self) {
            #[cfg(feature = "gpu")]
            Err(Error::Device { device, detail }) if self.falls_back && self.device != EncoderDevice::Cpu => {
                let processor = self.elsewhere();
                tracing::warn!("{device}: {detail}; the processor encodes in precision {}", processor.precision);
                load(&processor)
            }
            loaded => loaded,
        }
    }

    /// The processor instead of the device.
    #[cfg(feature = "gpu")]
    fn elsewhere(&self) -> Self {
        // In half precision it does not compute.
        let precision = match self.precision {
            Precision::F16 | Precision::Bf16 => Precision::Auto,
            precision => precision,
        };
        precision.into()
    }

    /// Loads a network.
    pub(crate) fn load<L: Load>(&self, from: &Arc<L>) -> Result<Box<dyn Run<L::Made>>> {
        let (name, precision) = (&self.name(), self.precision);
        #[cfg(feature = "gpu")]
        let elsewhere = self.falls_back.then(|| {
            let (from, elsewhere) = (from.clone(), self.elsewhere());
            Box::new(move || elsewhere.load(&from)) as LoadElsewhere<L::Made>
        });
        match &self.device {
            EncoderDevice::Cpu => from.load::<Flex>(precision, &Default::default(), name),
            #[cfg(feature = "wgpu")]
            EncoderDevice::Wgpu(device) => {
                driver::load(name, || from.load::<Gpu<cubecl::wgpu::WgpuRuntime>>(precision, device, name), elsewhere)
            }
            #[cfg(feature = "cuda")]
            EncoderDevice::Cuda(device) => {
                driver::load(name, || from.load::<Gpu<cubecl::cuda::CudaRuntime>>(precision, device, name), elsewhere)
            }
        }
    }
}
