//! From a kernel's text to a pipeline, from a pipeline and buffers to a bind group.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::buffer::Buffer;
use super::device::Gpu;
use super::ground::{checksum, lock};
use super::params::Field;
use super::pipeline::{BindGroup, Pipeline};
use super::shader::{Binding, load_with};
use super::source::ShaderSource;
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::trusted;

impl Gpu {
    /// The pipeline of a kernel variant, compiled at first use.
    ///
    /// `twin` is the Rust parameter block's field table; `trusted` compiles without run-time
    /// checks (the kernel's file must carry a `Safety:` note). Errors with [`Error::Kernel`]
    /// when the text, the interface or the device's limits do not fit.
    pub fn pipeline(
        &self,
        source: ShaderSource,
        spec: &Spec,
        twin: &[Field],
        trusted: bool,
    ) -> Result<Arc<Pipeline>> {
        let key = (source, spec.clone());
        if let Some(found) = lock(&self.inner.pipelines).get(&key) {
            return Ok(Arc::clone(found));
        }
        let pipeline = Arc::new(self.compile(source, spec, twin, trusted)?);
        self.inner.counters.pipelines.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::clone(lock(&self.inner.pipelines).entry(key).or_insert(pipeline)))
    }

    fn compile(
        &self,
        source: ShaderSource,
        spec: &Spec,
        twin: &[Field],
        trusted: bool,
    ) -> Result<Pipeline> {
        let shader = load_with(source, spec, self.inner.options.loops)?;
        shader.check_params(twin)?;
        let caps = self.caps();
        let invocations: u32 = shader.workgroup_size.iter().product();
        for (what, needed, has) in [
            ("storage buffers", shader.bindings.len() as u32, caps.max_storage_buffers),
            ("bytes of workgroup memory", shader.workgroup_bytes, caps.workgroup_memory),
            ("invocations per workgroup", invocations, caps.max_invocations),
        ] {
            if needed > has {
                let message = format!("needs {needed} {what}; {} has {has}", caps.name);
                return Err(Error::kernel(source.name, message));
            }
        }
        let trusted = trusted && !self.inner.options.checked;
        let device = &self.inner.device;
        let compiled = self.scoped(source.name, || {
            let module = if trusted {
                trusted::unchecked_module(device, source.name, shader.module)
            } else {
                device.create_shader_module(wgpu::ShaderModuleDescriptor {
                    label: Some(source.name),
                    source: wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(shader.module)),
                })
            };
            let entry = |binding: &Binding| wgpu::BindGroupLayoutEntry {
                binding: binding.slot,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: !binding.writable },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            };
            let entries: Vec<_> = shader.bindings.iter().map(entry).collect();
            let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(source.name),
                entries: &entries,
            });
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(source.name),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: shader.params_size,
            });
            let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(source.name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    // A trusted kernel writes all workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: !trusted,
                },
                cache: self.inner.driver_cache.as_ref().map(|(cache, _)| cache),
            });
            (raw, layout)
        });
        let (raw, layout) = compiled.map_err(|error| match error {
            Error::Device(message) => Error::kernel(source.name, message),
            other => other,
        })?;
        Ok(Pipeline { raw, layout, name: source.name, bindings: shader.bindings })
    }

    /// Binds buffers to a pipeline by the names its WGSL gives them. Each is bound whole.
    pub fn bind<'a>(
        &self,
        pipeline: &Pipeline,
        buffer: impl Fn(&str) -> Option<&'a Buffer>,
    ) -> Result<BindGroup> {
        let entries = pipeline
            .bindings
            .iter()
            .map(|binding| {
                let found = buffer(&binding.name).ok_or_else(|| {
                    let message = format!("nothing is bound to `{}`", binding.name);
                    Error::kernel(pipeline.name, message)
                })?;
                let resource = found.raw.as_entire_binding();
                Ok(wgpu::BindGroupEntry { binding: binding.slot, resource })
            })
            .collect::<Result<Vec<_>>>()?;
        let descriptor = wgpu::BindGroupDescriptor {
            label: Some(pipeline.name),
            layout: &pipeline.layout,
            entries: &entries,
        };
        let raw =
            self.scoped(pipeline.name, || self.inner.device.create_bind_group(&descriptor))?;
        self.inner.counters.bind_groups.fetch_add(1, Ordering::Relaxed);
        Ok(BindGroup { raw })
    }

    /// Writes the driver's compiled pipelines to the cache folder, if one was given and
    /// anything was compiled. The file is replaced whole, so readers never see half of one.
    pub fn save_pipeline_cache(&self) -> Result<()> {
        let Some((cache, path)) = &self.inner.driver_cache else { return Ok(()) };
        if self.inner.counters.pipelines.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let Some(data) = cache.get_data() else { return Ok(()) };
        let mut bytes = checksum(&data).to_le_bytes().to_vec();
        bytes.extend_from_slice(&data);
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&temporary, &bytes)
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(|e| Error::io(path, e))
    }
}
