//! Text in, answer out.

pub mod decoding;
mod embed;

pub use embed::{EmbedOptions, Embedder, Embedding};
