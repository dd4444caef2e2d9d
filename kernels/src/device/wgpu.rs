//! The GPUs that wgpu offers.

use burn_wgpu::WgpuDevice;
use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use cubecl::future::block_on;
use wgpu::DeviceType;

use super::{Adapter, Device, Kind, Missing};

/// Best first.
const KINDS: [(DeviceType, Kind); 4] = [
    (DeviceType::DiscreteGpu, Kind::Discrete),
    (DeviceType::IntegratedGpu, Kind::Integrated),
    (DeviceType::VirtualGpu, Kind::Virtual),
    (DeviceType::Cpu, Kind::Software),
];

/// All adapters, numbered best first. Of software adapters CubeCL knows one.
pub(super) fn adapters() -> Result<Vec<Adapter>, Vec<Missing>> {
    let backends = AutoGraphicsApi::backend().into();
    let descriptor = wgpu::InstanceDescriptor { backends, ..wgpu::InstanceDescriptor::new_without_display_handle() };
    let found = block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends));
    let infos: Vec<wgpu::AdapterInfo> = found.iter().map(wgpu::Adapter::get_info).collect();
    let mut adapters = Vec::new();
    for (device_type, kind) in KINDS {
        let most = if kind == Kind::Software { 1 } else { usize::MAX };
        let of_kind = infos.iter().filter(|info| info.device_type == device_type).take(most);
        for (of_its_kind, info) in of_kind.enumerate() {
            let device = Device::Wgpu(adapters.len());
            adapters.push(Adapter { device, name: info.name.clone(), kind, memory: None, of_its_kind });
        }
    }
    if adapters.is_empty() { Err(vec![Missing::WgpuAdapter]) } else { Ok(adapters) }
}

/// An adapter as CubeCL names it: by its kind, and its number among those.
pub(super) fn device(adapter: &Adapter) -> WgpuDevice {
    match adapter.kind {
        Kind::Discrete => WgpuDevice::DiscreteGpu(adapter.of_its_kind),
        Kind::Integrated => WgpuDevice::IntegratedGpu(adapter.of_its_kind),
        Kind::Virtual => WgpuDevice::VirtualGpu(adapter.of_its_kind),
        Kind::Software => WgpuDevice::Cpu,
    }
}
