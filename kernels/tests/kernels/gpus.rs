//! The GPUs that tests run on.

use std::sync::OnceLock;

use cubecl::prelude::Runtime;
use latewood_kernels::{Client, Device, Found, Resolved, found};

/// Names the kinds of GPUs, `wgpu`, `cuda`, that must be there.
const REQUIRED: &str = "LATEWOOD_REQUIRE_GPU_TESTS";

/// A test, for whatever runtime a GPU has.
pub(crate) trait Test {
    fn run<R: Runtime>(&self, client: &Client<R>);
}

/// Runs `test` on the first GPU of wgpu and on the first of CUDA.
pub(crate) fn on_every_gpu(test: &impl Test) {
    static FOUND: OnceLock<Found> = OnceLock::new();
    let found = FOUND.get_or_init(found);
    let mut ran = false;
    for (device, kind) in [(Device::Cuda(0), "cuda"), (Device::Wgpu(0), "wgpu")] {
        let there = device.among(found).is_ok_and(|gpu| run(&gpu, test));
        assert!(there || !std::env::var(REQUIRED).is_ok_and(|kinds| kinds.contains(kind)), "no {device}: {found}");
        ran |= there;
    }
    if !ran {
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
