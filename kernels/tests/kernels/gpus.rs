//! The GPUs that tests run on.

use std::sync::OnceLock;

use cubecl::prelude::Runtime;
use latewood_kernels::{Client, Device, Found, Resolved, found};

/// A test, for whatever runtime a GPU has.
pub(crate) trait Test {
    fn run<R: Runtime>(&self, client: &Client<R>);
}

/// Runs `test` on the first GPU of wgpu and on the first of CUDA.
pub(crate) fn on_every_gpu(test: &impl Test) {
    static FOUND: OnceLock<Found> = OnceLock::new();
    let found = FOUND.get_or_init(found);
    let mut ran = false;
    for device in [Device::Cuda(0), Device::Wgpu(0)] {
        ran |= device.among(found).is_ok_and(|gpu| run(&gpu, test));
    }
    if !ran {
        assert!(std::env::var_os("LATEWOOD_REQUIRE_GPU_TESTS").is_none_or(|x| x != "1"), "no GPU to test on: {found}");
        eprintln!("NOT TESTED, there is no GPU: {found}");
    }
}

fn run(gpu: &Resolved, test: &impl Test) -> bool {
    #[cfg(feature = "wgpu")]
    if let Some(device) = gpu.wgpu() {
        test.run(&Client::<cubecl::wgpu::WgpuRuntime>::connect(&device).unwrap());
        return true;
    }
    #[cfg(feature = "cuda")]
    if let Some(device) = gpu.cuda() {
        test.run(&Client::<cubecl::cuda::CudaRuntime>::connect(&device).unwrap());
        return true;
    }
    let _ = (gpu, test);
    false
}
