//! Model families: one file each, registered by `model_type`.
//!
//! A family reads `config.json`, checks it, and builds a [`Graph`] under the checkpoint's own
//! tensor names. It never names a shader or a device.

mod bert;
mod inputs;
mod runner;
mod verify;

use std::path::Path;
use std::sync::Arc;

pub use inputs::encoder_inputs;
pub use runner::{Device, Runner};
pub use verify::{NodeCheck, TOLERANCE, verify};

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::tensor::DType;
use crate::weights::{Checkpoint, Config, Pooling};

/// What a model's graph gives out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outputs {
    /// Every output the model class defines, under its Hugging Face name.
    Class {
        /// Also `hidden_states.N`: 0 is the input of layer 0, N the output of layer N.
        hidden_states: bool,
    },
    /// Only `embedding` [batch, hidden]: the pooled last hidden state.
    Embedding {
        /// How tokens become one vector.
        pooling: Pooling,
        /// Whether the vector is scaled to length 1.
        normalize: bool,
    },
}

/// How a model is built.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// Storage of matrices; `None` keeps the file's.
    pub dtype: Option<DType>,
    /// What is given out.
    pub outputs: Outputs,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { dtype: None, outputs: Outputs::Class { hidden_states: false } }
    }
}

/// Sizes and ids that callers need to feed a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// `model_type` of `config.json`.
    pub model_type: String,
    /// Token ids must be below this.
    pub vocab_size: usize,
    /// Longest input in tokens.
    pub max_tokens: usize,
    /// Segment ids must be below this.
    pub type_vocab_size: usize,
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Layers.
    pub n_layers: usize,
    /// Attention heads.
    pub n_heads: usize,
}

/// A model ready to be run: its graph, not yet fused, and what callers need to know.
pub struct Model {
    /// The graph.
    pub graph: Graph,
    /// Sizes.
    pub info: ModelInfo,
    /// Things the caller should be told: ignored fields, odd values.
    pub notices: Vec<String>,
}

/// One row of the registry.
struct Family {
    model_type: &'static str,
    build: fn(&Config, Arc<Checkpoint>, &BuildOptions) -> Result<Model>,
}

const FAMILIES: &[Family] = &[bert::FAMILY];

/// Reads a model folder in Hugging Face layout and builds its graph. No weight is read yet.
///
/// Errors name the file, field or tensor: a missing or malformed file, an unknown
/// `model_type` (the known ones are listed), a config feature that is not supported, a tensor
/// whose shape is not the config's.
pub fn open(folder: impl AsRef<Path>, options: &BuildOptions) -> Result<Model> {
    let folder = folder.as_ref();
    let config = Config::open(folder)?;
    let model_type = config.model_type()?;
    let family = FAMILIES.iter().find(|f| f.model_type == model_type).ok_or_else(|| {
        let known: Vec<_> = FAMILIES.iter().map(|f| f.model_type).collect();
        let message = format!("model_type `{model_type}` is unknown; known: {}", known.join(", "));
        Error::file(config.path(), message)
    })?;
    let checkpoint = Arc::new(Checkpoint::open(folder)?);
    let mut model = (family.build)(&config, checkpoint, options)?;
    model.notices.splice(0..0, config.notices().iter().cloned());
    Ok(model)
}
