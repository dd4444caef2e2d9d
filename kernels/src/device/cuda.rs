//! Whether CUDA can be used here.
//!
//! CubeCL's CUDA backend needs the driver, its run-time compiler and the toolkit's headers, panics without the first,
//! and without the others leaves results unwritten and says nothing. So all three are looked for before it is touched.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use cudarc::driver::result;

use super::{Adapter, Device, Kind, Missing};
use crate::raw::{cuda_compiler_present, cuda_driver_present, cuda_memory};

/// The GPUs that CUDA offers, or all that is missing.
pub(super) fn adapters() -> Result<Vec<Adapter>, Vec<Missing>> {
    // The driver's library may lack a function that the bindings expect of it, which they answer with a panic.
    let devices = catch_unwind(devices).unwrap_or_else(|_| Err(Missing::CudaStart("it is too old".into())));
    // Without a device it does not matter what else is missing.
    let devices = devices.map_err(|missing| vec![missing])?;
    let missing: Vec<Missing> = [compiler(), header()].into_iter().filter_map(Result::err).collect();
    if missing.is_empty() { Ok(devices) } else { Err(missing) }
}

fn devices() -> Result<Vec<Adapter>, Missing> {
    if !cuda_driver_present() {
        return Err(Missing::CudaDriver);
    }
    let start = |error: cudarc::driver::DriverError| Missing::CudaStart(error.to_string());
    result::init().map_err(start)?;
    let count = result::device::get_count().map_err(start)?;
    if count == 0 {
        return Err(Missing::CudaDevice);
    }
    Ok((0..count).map(adapter).collect())
}

fn adapter(index: i32) -> Adapter {
    let name = result::device::get(index).and_then(result::device::get_name);
    Adapter {
        device: Device::Cuda(index as usize),
        name: name.unwrap_or_else(|_| "unknown".into()),
        kind: Kind::Discrete,
        memory: cuda_memory(index),
        of_its_kind: index as usize,
    }
}

fn compiler() -> Result<(), Missing> {
    if cuda_compiler_present() { Ok(()) } else { Err(Missing::CudaCompiler) }
}

/// The header that every kernel includes, where CubeCL's backend looks for it.
fn header() -> Result<(), Missing> {
    let exists = |path: &Path| path.exists();
    let header = toolkit(std::env::var_os("CUDA_PATH").map(PathBuf::from), exists)
        .ok_or(Missing::CudaToolkit)?
        .join("include")
        .join("cuda_runtime.h");
    if exists(&header) { Ok(()) } else { Err(Missing::CudaHeader(header)) }
}

/// The toolkit's folder by the rules of CubeCL's backend: what is set counts, whether or not it is there.
fn toolkit(set: Option<PathBuf>, exists: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    if set.is_some() {
        return set;
    }
    if cfg!(windows) {
        return Some("C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA/".into());
    }
    if !cfg!(target_os = "linux") {
        return None;
    }
    let places = [("/usr/local/cuda", "/usr/local/cuda"), ("/opt/cuda", "/opt/cuda"), ("/usr/bin/nvcc", "/usr")];
    places.into_iter().find(|(sign, _)| exists(Path::new(sign))).map(|(_, folder)| folder.into())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn the_toolkit_is_where_cubecl_looks() {
        let only = |there: &'static str| move |path: &Path| path == Path::new(there);
        assert_eq!(toolkit(Some("/x".into()), only("/opt/cuda")), Some("/x".into()));
        assert_eq!(toolkit(None, only("/opt/cuda")), Some("/opt/cuda".into()));
        assert_eq!(toolkit(None, only("/usr/bin/nvcc")), Some("/usr".into()));
        assert_eq!(toolkit(None, only("/elsewhere")), None);
    }
}
