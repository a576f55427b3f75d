//! Text in, answer out.

mod attend;
pub mod decoding;
mod embed;
mod generate;
mod rows;

pub use attend::{Attended, Attender, Text, Token};
pub use embed::{EmbedOptions, Embedder, Embedding};
pub use generate::{Event, GenerateOptions, Generation, TextGenerator, Timing};
