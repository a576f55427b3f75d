//! wgpu calls whose contract is ours to keep.

use std::borrow::Cow;

use wgpu::naga::Module;

/// Compiles a kernel without naga's run-time bounds checks and loop bounding, which cost up to
/// 100x in tight loops.
///
/// Sound because it is only called for kernels whose file carries a `Safety:` note that argues
/// every index from `Params`, whose parameters come from checked shapes, and which the test
/// suite also runs with checks on (`GpuOptions::checked`).
pub fn unchecked_module(device: &wgpu::Device, name: &str, module: Module) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(name),
        source: wgpu::ShaderSource::Naga(Cow::Owned(module)),
    };
    // SAFETY: see above; the kernel's own note carries the argument for each index.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}

/// A driver pipeline cache, seeded with bytes a previous run of ours saved.
///
/// Sound under wgpu's condition that the bytes come from `PipelineCache::get_data`: the file
/// lies in the user's own cache folder, its name carries adapter and driver, and its content
/// is only used when the checksum written beside it still holds.
pub fn pipeline_cache(device: &wgpu::Device, data: Option<&[u8]>) -> wgpu::PipelineCache {
    let descriptor =
        wgpu::PipelineCacheDescriptor { label: Some("tilewright"), data, fallback: true };
    // SAFETY: see above.
    unsafe { device.create_pipeline_cache(&descriptor) }
}

/// Leave to request features that wgpu calls experimental (cooperative matrices).
pub fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: the token only acknowledges that such features may have bugs; kernels that use
    // them are certified against the reference on each adapter before they run.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}
