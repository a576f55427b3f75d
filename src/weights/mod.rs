//! Model folders: safetensors files, sharded checkpoints, `config.json`,
//! `generation_config.json` and the files of sentence-transformers, read by range and checked
//! before use.

mod checkpoint;
mod config;
mod convert;
mod generation;
mod header;
mod safetensors;
mod sentence;
mod write;

pub use crate::activation::Activation;
pub use checkpoint::Checkpoint;
pub use config::Config;
pub use convert::{FileDType, first_non_finite};
pub use generation::{DEFAULT_NEW_TOKENS, Decoding, EarlyStopping, GenerationConfig};
pub use header::TensorInfo;
pub use safetensors::SafeTensors;
pub use sentence::{Pooling, SentenceConfig};
pub use write::write;
