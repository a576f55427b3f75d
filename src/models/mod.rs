//! Model families: one file each, registered by `model_type`.
//!
//! A family reads `config.json`, checks it, and builds a [`Graph`](crate::graph::Graph) under the
//! checkpoint's own tensor names. It never names a shader or a device.
//!
//! Imports in this room point one way: the contract (`model`, `info`) below, the frames on it,
//! the families on both, the registry on top.

mod albert;
mod bart;
mod bert;
mod distilbert;
mod electra;
mod encoder_decoder;
mod frame;
mod gemma;
mod gpt2;
mod gpt_bigcode;
mod gpt_neox;
mod granite;
mod info;
mod llama;
mod loss;
mod model;
mod modernbert;
mod modernbert_test;
mod mpnet;
mod olmo2;
mod opt;
mod phi3;
mod registry;
mod roberta;
mod smollm3;
mod starcoder2;
mod t5;
mod vaswani;

pub use frame::outputs::{NEXT_TOKEN, POSITIONS, SAMPLING};
pub use info::{Class, DecoderInfo, Kind, ModelInfo, UNLIMITED, labels};
pub(crate) use loss::IGNORED;
pub use loss::{LABELS, LOSS, token_losses};
pub use model::{BuildOptions, Model, Outputs};
pub use registry::{open, open_head};
