//! What a device can do.

use std::fmt;

use super::options::GpuOptions;
use super::params::MAX_PARAMS;
use crate::tensor::DType;

/// What a device offers to kernels: features taken when present, and limits.
#[derive(Clone, Debug)]
pub struct Caps {
    /// The adapter's name.
    pub name: String,
    /// Backend and driver with version.
    pub driver: String,
    /// Whether kernels are written as Metal's language.
    pub metal: bool,
    /// Whether it runs on the CPU.
    pub software: bool,
    /// Subgroup size, when subgroup operations exist and the size is always the same.
    pub subgroup: Option<u32>,
    /// Smallest and largest subgroup size, if subgroup operations exist.
    pub subgroup_range: Option<(u32, u32)>,
    /// `f16` arithmetic in shaders.
    pub f16: bool,
    /// Timestamps between dispatches of one pass.
    pub timestamps: bool,
    /// Cooperative matrices that the adapter lists; empty if none.
    pub cooperative: Vec<Cooperative>,
    /// Whether compiled pipelines can be kept between runs.
    pub pipeline_cache: bool,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Invocations per workgroup.
    pub max_invocations: u32,
    /// Storage buffers per kernel.
    pub max_storage_buffers: u32,
    /// Bytes of immediates.
    pub max_immediates: u32,
}

impl Caps {
    /// A device with what WebGPU guarantees and no more, for planning and for assembling
    /// kernels where there is no device.
    pub fn baseline() -> Self {
        Self {
            name: "baseline".to_owned(),
            driver: "none".to_owned(),
            metal: false,
            software: false,
            subgroup: None,
            subgroup_range: None,
            f16: false,
            timestamps: false,
            cooperative: Vec::new(),
            pipeline_cache: false,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            workgroup_memory: 16 << 10,
            max_invocations: 256,
            max_storage_buffers: 8,
            max_immediates: MAX_PARAMS as u32,
        }
    }

    /// The subgroup size on a driver that computes on the CPU, where subgroups are its vector
    /// units.
    pub fn vector_unit(&self) -> Option<u32> {
        self.subgroup.filter(|_| self.software)
    }

    /// Side of the square cooperative matrices that multiply f16 and sum in f32, the largest that
    /// kernels are written for.
    pub fn fragment(&self) -> Option<u32> {
        let square = |m: &&Cooperative| {
            let side = m.m;
            (m.n, m.k) == (side, side) && matches!(side, 8 | 16)
        };
        let kinds = |m: &&Cooperative| (m.multiplicands, m.sums) == (DType::F16, DType::F32);
        self.cooperative.iter().filter(square).filter(kinds).map(|m| m.m).max()
    }
}

/// One shape of cooperative matrices: `[m, k] x [k, n] + [m, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooperative {
    /// Rows of the first factor.
    pub m: u32,
    /// Columns of the second factor.
    pub n: u32,
    /// The inner dimension.
    pub k: u32,
    /// Element type of the factors.
    pub multiplicands: DType,
    /// Element type of the sums.
    pub sums: DType,
}

impl fmt::Display for Cooperative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { m, n, k, multiplicands, sums } = self;
        write!(f, "{m}x{n}x{k} {multiplicands} -> {sums}")
    }
}

pub(super) fn caps(adapter: &wgpu::Adapter, device: &wgpu::Device, options: &GpuOptions) -> Caps {
    let info = adapter.get_info();
    let (features, limits) = (device.features(), device.limits());
    let has = |f| features.contains(f);
    let metal = info.backend == wgpu::Backend::Metal;
    let (min, max) = match apple_subgroup(metal, &info.name) {
        Some(size) => (size, size),
        None => (info.subgroup_min_size, info.subgroup_max_size),
    };
    let subgroups = has(wgpu::Features::SUBGROUP) && !options.no_subgroups && min > 0;
    let cooperative = if has(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        adapter.cooperative_matrix_properties()
    } else {
        Vec::new()
    };
    Caps {
        driver: format!("{:?}, {} {}", info.backend, info.driver, info.driver_info)
            .trim()
            .to_owned(),
        metal,
        software: info.device_type == wgpu::DeviceType::Cpu,
        subgroup: (subgroups && min == max).then_some(min),
        subgroup_range: subgroups.then_some((min, max)),
        f16: has(wgpu::Features::SHADER_F16),
        timestamps: has(wgpu::Features::TIMESTAMP_QUERY)
            && has(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES),
        cooperative: cooperative.iter().filter_map(typed).collect(),
        pipeline_cache: has(wgpu::Features::PIPELINE_CACHE),
        max_binding: limits
            .max_storage_buffer_binding_size
            .min(options.max_binding.unwrap_or(u64::MAX)),
        max_buffer: limits.max_buffer_size,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_immediates: limits.max_immediate_size,
        name: info.name,
    }
}

/// The subgroup size of Apple's own GPUs, which is the same for all of them; wgpu gives Metal's
/// bounds, 4 and 64, for every adapter. A kernel that some GPU runs with another size is off by
/// certification.
fn apple_subgroup(metal: bool, adapter: &str) -> Option<u32> {
    (metal && adapter.starts_with("Apple")).then_some(32)
}

/// What an adapter lists, of the types that kernels can use.
fn typed(p: &wgpu::CooperativeMatrixProperties) -> Option<Cooperative> {
    let dtype = |ty: wgpu::CooperativeScalarType| match ty {
        wgpu::CooperativeScalarType::F16 => Some(DType::F16),
        wgpu::CooperativeScalarType::F32 => Some(DType::F32),
        _ => None,
    };
    let (multiplicands, sums) = (dtype(p.ab_type)?, dtype(p.cr_type)?);
    Some(Cooperative { m: p.m_size, n: p.n_size, k: p.k_size, multiplicands, sums })
}
