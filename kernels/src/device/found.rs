//! What GPUs there are, and what is missing where there is none.

use std::fmt;
use std::path::PathBuf;

use super::Device;

/// What kind of device an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU, or a part of one, handed to a virtual machine.
    Virtual,
    /// The processor, acting as a GPU: for tests.
    Software,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
        })
    }
}

/// A GPU that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adapter {
    /// How to name it.
    pub device: Device,
    /// What its driver calls it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes of its memory, where the driver tells.
    pub memory: Option<u64>,
    /// Its number among those of its kind.
    pub(super) of_its_kind: usize,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}", self.device, self.name, self.kind)?;
        if let Some(bytes) = self.memory {
            write!(f, ", {} GiB", bytes >> 30)?;
        }
        f.write_str(")")
    }
}

/// Something without which GPUs of a kind cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// This program cannot use wgpu.
    #[error("this program was built without wgpu: build it with the feature `wgpu`")]
    WgpuSupport,
    /// This program cannot use CUDA.
    #[error("this program was built without CUDA: build it with the feature `cuda`")]
    CudaSupport,
    /// wgpu finds nothing.
    #[error("no graphics driver offers a GPU to wgpu: install the GPU's Vulkan driver")]
    WgpuAdapter,
    /// No `libcuda`.
    #[error("the CUDA driver's library (libcuda) cannot be loaded: install NVIDIA's driver")]
    CudaDriver,
    /// The driver does not start.
    #[error("the CUDA driver does not start: {0}")]
    CudaStart(String),
    /// The driver has no device.
    #[error("the CUDA driver finds no GPU")]
    CudaDevice,
    /// No `libnvrtc`.
    #[error("CUDA's compiler library (libnvrtc) cannot be loaded: install the CUDA toolkit's run-time compiler")]
    CudaCompiler,
    /// No toolkit where CubeCL looks for one.
    #[error("no CUDA toolkit in its usual place: install it, or set CUDA_PATH to the folder that has `include` in it")]
    CudaToolkit,
    /// A toolkit without headers.
    #[error("the CUDA toolkit has no {}: install its headers, or set CUDA_PATH to a folder with them", .0.display())]
    CudaHeader(PathBuf),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Found {
    /// The GPUs that can be used: those of CUDA, then those of wgpu, software adapters last.
    pub adapters: Vec<Adapter>,
    /// What is missing for other kinds of GPUs.
    pub missing: Vec<Missing>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.adapters.is_empty() {
            f.write_str("no GPU")?;
        }
        for (i, adapter) in self.adapters.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{adapter}")?;
        }
        self.missing.iter().try_for_each(|missing| write!(f, "; {missing}"))
    }
}

/// Looks for GPUs. Takes as long as graphics drivers take to start, up to some tenths of a second.
pub fn found() -> Found {
    let mut found = Found::default();
    found.add(cuda());
    found.add(wgpu());
    found
}

impl Found {
    fn add(&mut self, found: Result<Vec<Adapter>, Vec<Missing>>) {
        match found {
            Ok(adapters) => self.adapters.extend(adapters),
            Err(missing) => self.missing.extend(missing),
        }
    }
}

fn cuda() -> Result<Vec<Adapter>, Vec<Missing>> {
    #[cfg(feature = "cuda")]
    return super::cuda::adapters();
    #[cfg(not(feature = "cuda"))]
    Err(vec![Missing::CudaSupport])
}

fn wgpu() -> Result<Vec<Adapter>, Vec<Missing>> {
    #[cfg(feature = "wgpu")]
    return super::wgpu::adapters();
    #[cfg(not(feature = "wgpu"))]
    Err(vec![Missing::WgpuSupport])
}
