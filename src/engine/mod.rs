//! What runs a built model: a graph on a device, and on the CPU where there is none.
//!
//! [`models`](crate::models) reads a folder and builds graphs; here they are given a
//! [`Device`], sessions that grow with the inputs ([`Runner`]), caches that are kept from token
//! to token ([`Generator`]), and checks ([`verify`], [`model_inputs`]).

mod attention_maps;
mod decoding;
mod device;
mod generator;
mod inputs;
mod runner;
mod sessions;
mod shipped;
mod verify;

pub use attention_maps::{AttentionMap, Stack, attention_maps};
pub use decoding::{AheadStats, Decoding};
pub use device::Device;
pub use generator::Generator;
pub use inputs::{by_name, model_inputs};
pub use runner::Runner;
pub use sessions::Capacity;
pub use shipped::{Shipped, shipped, shipped_names};
pub use verify::{NodeCheck, TOLERANCE, verify};
