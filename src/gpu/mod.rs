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
mod compile;
mod const_expr;
mod device;
mod grid;
mod ground;
mod options;
mod params;
mod pipeline;
mod shader;
mod shared;
mod source;
mod spec;
mod timing;
mod unroll;
mod verdicts;

pub use adapter::{Adapter, Choice, NO_ADAPTER_HELP, Selector, adapters, no_adapter, select};
pub use assemble::{Assembled, assemble, assemble_with};
pub use buffer::{Buffer, Mapping, Readback, Upload};
pub use caps::{Caps, Cooperative};
pub use commands::{Commands, Pass};
pub use device::{Counters, Gpu};
pub use grid::{MAX_GROUPS, fold};
pub use options::GpuOptions;
pub use params::{Field, MAX_PARAMS, ParamBytes};
pub use pipeline::{BindGroup, Pipeline};
pub use shader::{Binding, Shader, load, load_file, load_with};
pub use source::{Loops, Origin, ShaderSource};
pub use spec::{ConstValue, Spec};
pub use timing::{Clock, Timestamps};
pub use verdicts::Verdicts;
