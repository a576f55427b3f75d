//! What models share: parameters by their checkpoint names, and the blocks built of them.

mod blocks;
mod parameters;

pub use blocks::{Norm, SelfAttention, activation, feed_forward, linear, self_attention};
pub use parameters::Parameters;
