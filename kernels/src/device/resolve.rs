//! From what a user names to what there is.

use super::{Adapter, Device, Found, Kind, Missing, found};

/// Why there is no such device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not the name of a device.
    #[error("no device is called {text:?}: write auto, cpu, wgpu, wgpu:N, cuda or cuda:N")]
    Unknown {
        /// What was written.
        text: String,
    },
    /// A device that is named and cannot be used.
    #[error("there is no {device}: {reasons}; found: {found}. Name one of these, or say auto or cpu")]
    Absent {
        /// The device.
        device: Device,
        /// What is missing.
        reasons: String,
        /// What there is.
        found: String,
    },
}

/// A device that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// The device, never [`Device::Auto`].
    pub device: Device,
    /// The GPU, unless it is the processor.
    pub adapter: Option<Adapter>,
    /// Why this one, for a log.
    pub reason: String,
}

impl Device {
    /// Finds the device.
    ///
    /// # Errors
    /// When it was named and is not there, or this program was built without what it takes to use it.
    pub fn resolve(self) -> Result<Resolved, DeviceError> {
        match self {
            Self::Cpu => Ok(Resolved::processor("it was asked for".into())),
            _ => self.among(&found()),
        }
    }

    /// Finds the device among those found before.
    ///
    /// # Errors
    /// As [`Device::resolve`].
    pub fn among(self, found: &Found) -> Result<Resolved, DeviceError> {
        match self {
            Self::Auto => Ok(best(found)),
            Self::Cpu => Ok(Resolved::processor("it was asked for".into())),
            Self::Wgpu(_) | Self::Cuda(_) => match found.adapters.iter().find(|adapter| adapter.device == self) {
                Some(adapter) => Ok(Resolved::gpu(adapter, "it was asked for")),
                None => Err(absent(self, found)),
            },
        }
    }
}

impl Resolved {
    fn gpu(adapter: &Adapter, reason: &str) -> Self {
        Self { device: adapter.device, adapter: Some(adapter.clone()), reason: reason.into() }
    }

    fn processor(reason: String) -> Self {
        Self { device: Device::Cpu, adapter: None, reason }
    }

    /// The device as CubeCL names it, if it is one of wgpu's.
    #[cfg(feature = "wgpu")]
    pub fn wgpu(&self) -> Option<burn_wgpu::WgpuDevice> {
        self.adapter.as_ref().filter(|_| matches!(self.device, Device::Wgpu(_))).map(super::wgpu::device)
    }

    /// The device as CubeCL names it, if it is one of CUDA's.
    #[cfg(feature = "cuda")]
    pub fn cuda(&self) -> Option<burn_cuda::CudaDevice> {
        let Device::Cuda(index) = self.device else { return None };
        Some(burn_cuda::CudaDevice::new(index))
    }
}

/// The first that is a GPU: CUDA's come first.
fn best(found: &Found) -> Resolved {
    match found.adapters.iter().find(|adapter| adapter.kind != Kind::Software) {
        Some(adapter) => Resolved::gpu(adapter, "it is the best GPU found"),
        None => Resolved::processor(format!("no GPU can be used; found: {found}")),
    }
}

fn absent(device: Device, found: &Found) -> DeviceError {
    let of_its_kind = |missing: &&Missing| {
        let wgpus = matches!(missing, Missing::WgpuSupport | Missing::WgpuAdapter);
        wgpus == matches!(device, Device::Wgpu(_))
    };
    let missing: Vec<String> = found.missing.iter().filter(of_its_kind).map(Missing::to_string).collect();
    let reasons = if missing.is_empty() { "no GPU has this number".into() } else { missing.join("; ") };
    let adapters: Vec<String> = found.adapters.iter().map(Adapter::to_string).collect();
    let found = if adapters.is_empty() { "no GPU".into() } else { adapters.join(", ") };
    DeviceError::Absent { device, reasons, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(device: Device, kind: Kind) -> Adapter {
        Adapter { device, name: "X".into(), kind, memory: Some(3 << 30), of_its_kind: 0 }
    }

    #[test]
    fn auto_takes_cuda_then_wgpu_then_the_processor() {
        let cuda = adapter(Device::Cuda(0), Kind::Discrete);
        let wgpu = adapter(Device::Wgpu(0), Kind::Integrated);
        let software = adapter(Device::Wgpu(1), Kind::Software);
        let of = |adapters: &[&Adapter]| Found {
            adapters: adapters.iter().map(|&adapter| adapter.clone()).collect(),
            missing: vec![Missing::CudaDriver],
        };
        let taken = |adapters: &[&Adapter]| Device::Auto.among(&of(adapters)).unwrap();
        assert_eq!(taken(&[&cuda, &wgpu, &software]).device, Device::Cuda(0));
        assert_eq!(taken(&[&wgpu, &software]).device, Device::Wgpu(0));
        let processor = taken(&[&software]);
        assert_eq!(processor.device, Device::Cpu);
        assert!(processor.reason.contains("wgpu:1 (X, software, 3 GiB)"), "{}", processor.reason);
        assert!(processor.reason.contains("libcuda"), "{}", processor.reason);
        assert_eq!(taken(&[]).device, Device::Cpu);
        assert_eq!(Device::Wgpu(1).among(&of(&[&software])).unwrap().adapter, Some(software));
    }

    #[test]
    fn a_named_device_must_be_there() {
        let adapters = vec![adapter(Device::Wgpu(0), Kind::Discrete)];
        let found = Found { adapters, missing: vec![Missing::CudaDriver] };
        let error = Device::Cuda(0).among(&found).unwrap_err().to_string();
        assert!(error.contains("no cuda:0") && error.contains("libcuda") && error.contains("wgpu:0 (X"), "{error}");
        let error = Device::Wgpu(3).among(&found).unwrap_err().to_string();
        assert!(error.contains("no wgpu:3: no GPU has this number") && !error.contains("libcuda"), "{error}");
        assert_eq!(Device::Cpu.among(&found).unwrap().device, Device::Cpu);
    }

    #[test]
    fn looking_around_never_panics() {
        let found = found();
        assert!(!found.to_string().is_empty());
        assert_ne!(Device::Auto.resolve().unwrap().device, Device::Auto);
    }
}
