//! Text in, answer out.

mod embed;

pub use embed::{EmbedOptions, Embedder, Embedding};
