//! The command graph: built per model, rewritten, laid out in memory, replayed.
//!
//! A model file builds a [`Graph`] of ops grouped in named layers. [`fuse`] rewrites it, [`narrow`]
//! stores what only feeds products in f16, [`Plan`] lays its intermediates into a few slot buffers and
//! knows the exact bytes before anything runs, and a [`Session`] replays it on a device; a
//! [`HostSession`] runs the same graph through the ops' CPU routes, and both are [`Executor`]s. Batch,
//! length and cache position are symbols: a step with new values for them compiles nothing, allocates
//! nothing and binds nothing.

mod ahead;
mod choose;
mod cpu;
mod embed;
mod exec;
mod executor;
mod fuse;
mod loaded;
mod narrow;
mod node;
mod on_device;
mod options;
mod permute;
mod plan;
mod policy;
mod profile;
mod show;
mod sizes;
mod state;
mod weight;

pub use cpu::{HostSession, HostWeights};
pub use embed::Recorded;
pub use exec::Session;
pub use executor::{Ahead, Executor};
pub use fuse::{Fusion, fuse};
pub use loaded::{DeviceWeights, LoadTimes, Progress};
pub use narrow::narrow;
pub use node::{Graph, Node, Value};
pub use options::SessionOptions;
pub use plan::{Plan, SplitWeight};
pub use policy::{Policy, PrecisionMode, Tune};
pub use profile::NodeTime;
pub use show::{to_dot, to_json, to_svg};
pub use sizes::Size;
pub use state::States;
pub use weight::{Weight, WeightSource};
