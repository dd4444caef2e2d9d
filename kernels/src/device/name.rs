//! Devices as users name them.

use std::fmt;
use std::str::FromStr;

use super::DeviceError;

/// A device to compute on: `auto`, `cpu`, `wgpu:0`, `cuda:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The best there is: CUDA, else a GPU through wgpu, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of this number through wgpu, as [`super::found`] lists them.
    Wgpu(usize),
    /// The GPU of this number through CUDA.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu(index) => write!(f, "wgpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    /// Reads a name; without a number, `wgpu` and `cuda` are the first of their kind.
    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { text: text.to_string() };
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("wgpu", index) => Ok(Self::Wgpu(index.unwrap_or(0))),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, device, written) in [
            ("auto", Device::Auto, "auto"),
            ("cpu", Device::Cpu, "cpu"),
            ("wgpu", Device::Wgpu(0), "wgpu:0"),
            ("wgpu:1", Device::Wgpu(1), "wgpu:1"),
            ("cuda:0", Device::Cuda(0), "cuda:0"),
        ] {
            assert_eq!(text.parse::<Device>().unwrap(), device);
            assert_eq!(device.to_string(), written);
        }
        for text in ["", "gpu", "cpu:0", "auto:1", "wgpu:", "wgpu:x", "cuda:-1", "CUDA"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
