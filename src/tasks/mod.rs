//! Text in, answer out.

pub mod decoding;
mod embed;
mod generate;
mod rows;

pub use embed::{EmbedOptions, Embedder, Embedding};
pub use generate::{Event, GenerateOptions, Generation, TextGenerator, Timing};
