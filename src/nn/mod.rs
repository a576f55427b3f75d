//! What models share: parameters by their checkpoint names, and the blocks built of them.

mod attention;
mod blocks;
mod memory;
mod parameters;
mod rotary;
mod sequence;

pub use attention::{Attend, Cache, Heads, RelativeBias};
pub use blocks::{
    Norm, NormKind, activation, add, feed_forward, gated_feed_forward, linear, table,
};
pub use memory::Memory;
pub use parameters::Parameters;
pub use rotary::Rotary;
pub use sequence::{Sequence, sinusoid};
