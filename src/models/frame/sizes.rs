//! Sizes that every stack has.

use crate::error::Result;
use crate::weights::Config;

/// Sizes of a stack of layers.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub vocab_size: usize,
    pub max_tokens: usize,
    pub hidden_size: usize,
    pub n_layers: usize,
    pub n_heads: usize,
}

/// The configuration's names of [`Sizes`], in their order.
pub const SIZE_NAMES: [&str; 5] = [
    "vocab_size",
    "max_position_embeddings",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
];

impl Sizes {
    /// Read under `names`, each within its bounds.
    pub fn read(config: &Config, names: [&str; 5]) -> Result<Self> {
        let [vocab_size, max_tokens, hidden_size, n_layers, n_heads] = names;
        Ok(Self {
            vocab_size: config.size(vocab_size)?,
            max_tokens: config.size(max_tokens)?,
            hidden_size: config.size(hidden_size)?,
            n_layers: config.layers(n_layers)?,
            n_heads: config.size(n_heads)?,
        })
    }
}
