//! From logits to tokens, on the host: what is done to a row of logits before a token is chosen,
//! the choice itself, beam search, and when to stop.
//!
//! One row of logits at a time: [`Processors`] change it, [`Sampler`] chooses from it.
//! [`BeamSearch`] takes the rows of all beams of one input and does both. [`StopStrings`] cuts
//! the text where a stop string appears. The meanings are those of transformers 5.

mod beam;
mod processors;
mod sampler;
mod stop;
mod tests;

pub use beam::{BeamSearch, BeamStep, Hypothesis};
pub use processors::Processors;
pub use sampler::{Rng, Sampler, greedy};
pub use stop::{FinishReason, StopStrings, Stopped};
