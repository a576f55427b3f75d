//! The command graph: built per model, rewritten, laid out in memory, replayed.
//!
//! A model file builds a [`Graph`] of ops grouped in named layers. [`fuse`] rewrites it,
//! [`Plan`] lays its intermediates into a few slot buffers and knows the exact bytes before
//! anything runs, and a [`Session`] replays it on a device; [`run_cpu`] runs the same graph
//! through the ops' CPU routes. Batch, length and cache position are symbols: a step with new
//! values for them compiles nothing, allocates nothing and binds nothing.

mod ahead;
mod choose;
mod cpu;
mod embed;
mod exec;
mod fuse;
mod node;
mod options;
mod plan;
mod policy;
mod profile;
mod show;
mod state;
mod weight;

pub use ahead::Ahead;
pub use cpu::{HostWeights, run_cpu, step_cpu, trace_cpu};
pub use embed::Recorded;
pub use exec::Session;
pub use fuse::{Fusion, fuse};
pub use node::{Graph, Node, Value};
pub use options::SessionOptions;
pub use plan::{Plan, SplitWeight};
pub use policy::{Policy, PrecisionMode, Tune};
pub use profile::NodeTime;
pub use show::{to_dot, to_json, to_svg};
pub use state::{HostStates, States};
pub use weight::{DeviceWeights, Progress, Weight, WeightSource};
