//! Compiled kernels and their bindings, and the driver's cache of them.

use std::path::{Path, PathBuf};

use super::ground::checksum;
use super::shader::Binding;
use super::source::ShaderSource;
use super::spec::Spec;
use crate::trusted;

/// The text counts too: an embedder's kernel may share a name with one of ours.
pub(super) type PipelineKey = (ShaderSource, Spec);

/// A compiled kernel variant.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) name: &'static str,
    pub(super) bindings: Vec<Binding>,
}

impl Pipeline {
    /// The kernel's name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// Buffers bound to one pipeline, by name.
#[derive(Debug)]
pub struct BindGroup {
    pub(super) raw: wgpu::BindGroup,
}

/// The driver's cache with what an earlier run left; a missing or damaged file is an empty
/// cache. `None` where the backend has no such cache or the folder cannot be made.
pub(super) fn open_driver_cache(
    device: &wgpu::Device,
    info: &wgpu::AdapterInfo,
    dir: &Path,
) -> Option<(wgpu::PipelineCache, PathBuf)> {
    let key = wgpu::util::pipeline_cache_key(info)?;
    std::fs::create_dir_all(dir).ok()?;
    let driver = checksum(format!("{}{}", info.driver, info.driver_info).as_bytes());
    let path = dir.join(format!("{key}_{driver:016x}"));
    let bytes = std::fs::read(&path).unwrap_or_default();
    let data = bytes
        .split_first_chunk::<8>()
        .and_then(|(sum, data)| (u64::from_le_bytes(*sum) == checksum(data)).then_some(data));
    Some((trusted::pipeline_cache(device, data), path))
}
