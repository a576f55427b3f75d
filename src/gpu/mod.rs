//! The only room that names wgpu: device, buffers, shader loader, pipelines, timing.
//!
//! A [`Gpu`] is a cheap handle to one device. It is opened by [`select`] or [`Adapter::open`] or wrapped around
//! a host program's own device by [`Gpu::from_wgpu`]; in the latter case nothing is installed
//! on it: errors are collected through error scopes around our own calls.

mod adapter;
mod assemble;
mod buffer;
mod caps;
mod commands;
mod const_expr;
mod device;
mod params;
mod pipeline;
mod shader;
mod shared;
mod spec;
mod timing;
mod unroll;
mod verdicts;

pub use adapter::{Adapter, Choice, Selector, adapters, no_adapter, select};
pub use assemble::{Assembled, Loops, Origin, assemble, assemble_with};
pub use buffer::{Buffer, Mapping, Readback, Upload};
pub use caps::{Caps, Cooperative};
pub use commands::{Commands, Pass};
pub use device::{Counters, Gpu, GpuOptions, NO_ADAPTER_HELP};
pub use params::{Field, MAX_PARAMS, ParamBytes};
pub use pipeline::{BindGroup, Pipeline};
pub use shader::{Binding, Shader, ShaderSource, load, load_with};
pub use spec::{ConstValue, Spec};
pub use timing::{Clock, Timestamps};
pub use verdicts::Verdicts;

/// The most workgroups a dispatch may have in one dimension, on any device.
pub const MAX_GROUPS: u32 = 65_535;

/// A grid for `groups` workgroups counted in one dimension, folded over x and y when they
/// exceed [`MAX_GROUPS`]; kernels undo it with `fold` and check bounds.
pub fn fold(groups: usize) -> [u32; 3] {
    let limit = MAX_GROUPS as usize;
    let y = groups.div_ceil(limit).max(1);
    // Both factors fit: x <= 65,535, and y does for every buffer a device can hold.
    [groups.div_ceil(y) as u32, y as u32, 1]
}
