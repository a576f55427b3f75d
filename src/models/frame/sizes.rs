//! Sizes that configurations state, and features that they may not ask for.

use crate::error::Result;
use crate::files::show;
use crate::graph::{Graph, Value};
use crate::models::model::BuildOptions;
use crate::nn::Parameters;
use crate::ops::Matmul;
use crate::weights::Config;

/// Sizes beyond these are typing errors, not models.
pub const MOST: usize = 1 << 24;

/// Sizes that every decoder has.
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

/// The output matrix and the word table, as most families name them.
pub const TABLES: [&str; 2] = ["lm_head.weight", "embed_tokens.weight"];

impl Sizes {
    /// Read under `names`, each within its bounds.
    pub fn read(config: &Config, names: [&str; 5]) -> Result<Self> {
        let [vocab_size, max_tokens, hidden_size, n_layers, n_heads] = names;
        Ok(Self {
            vocab_size: config.usize_field(vocab_size, 1..=MOST)?,
            max_tokens: config.usize_field(max_tokens, 1..=MOST)?,
            hidden_size: config.usize_field(hidden_size, 1..=MOST)?,
            n_layers: config.usize_field(n_layers, 1..=4096)?,
            n_heads: config.usize_field(n_heads, 1..=MOST)?,
        })
    }

    /// Rows of a position table that is computed: as many as will be used, where that is known.
    pub fn positions(&self, options: &BuildOptions) -> usize {
        options.max_tokens.map_or(self.max_tokens, |most| most.clamp(1, self.max_tokens))
    }
}

/// An error that names the first of `fields` that is switched on (neither absent nor `null`,
/// `false`, 0 or empty): the family has no code for them.
pub fn refuse(config: &Config, fields: &[&str]) -> Result<()> {
    use serde_json::Value as Json;
    let on = |field: &&&str| match config.get(field) {
        None | Some(Json::Bool(false)) => false,
        Some(Json::Number(n)) => n.as_f64() != Some(0.0),
        Some(Json::String(text)) => !text.is_empty(),
        Some(Json::Array(items)) => !items.is_empty(),
        Some(Json::Object(items)) => !items.is_empty(),
        Some(Json::Bool(true) | Json::Null) => true,
    };
    match fields.iter().find(on).and_then(|field| Some((field, config.get(field)?))) {
        None => Ok(()),
        Some((field, value)) => {
            let expected = format!("none: `{}` models have no such feature", config.model_type()?);
            Err(config.error(field, show(value), expected))
        }
    }
}

/// Logits by the output matrix `own` [vocabulary, width], or by the word table that the parameters
/// tie it to.
pub fn output_head(
    graph: &mut Graph,
    parameters: &Parameters,
    own: &str,
    dims: [usize; 2],
    x: Value,
) -> Result<Value> {
    let weight = graph.weight(parameters.output(own, &dims)?);
    graph.apply(Matmul::linear(), [Some(x), Some(weight), None, None])
}
