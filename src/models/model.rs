//! The contract between model families and those who build and run them.

use std::sync::Arc;

use super::info::ModelInfo;
use crate::error::Result;
use crate::format::Format;
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
    /// Only `embedding` [batch, hidden]: the pooled last hidden state; [batch, vocabulary] for
    /// [`Pooling::Splade`].
    Embedding {
        /// How tokens become one vector.
        pooling: Pooling,
        /// Whether the vector is scaled to length 1.
        normalize: bool,
    },
    /// Only a language model's `logits` [batch, picks, vocabulary], at the tokens (the decoder's,
    /// behind an encoder) that the further input [`POSITIONS`](super::POSITIONS) u32 [batch, picks] names: the
    /// projection of all tokens would cost more than all layers together.
    MaskedTokens,
    /// The encoder of an encoder-decoder: `encoder_last_hidden_state`, and every decoder
    /// layer's keys and values of it, kept in states for [`Outputs::Decode`].
    Encode,
    /// One step of a decoder that keeps keys and values: `logits` [batch, vocabulary] of the
    /// last token and [`NEXT_TOKEN`](super::NEXT_TOKEN), the likeliest id.
    Decode,
}

/// How a model is built.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// Storage of matrices; `None` keeps the file's.
    pub dtype: Option<Format>,
    /// The longest input that will be run, where it is known: position tables that are computed
    /// are no longer than that. `None` for the model's own limit.
    pub max_tokens: Option<usize>,
    /// Storage of kept keys and values: f32, or f16 at half the memory and traffic.
    pub cache: DType,
    /// What is given out.
    pub outputs: Outputs,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            dtype: None,
            max_tokens: None,
            cache: DType::F32,
            outputs: Outputs::Class { hidden_states: false },
        }
    }
}

impl BuildOptions {
    /// Rows of a position table that is computed, for a model of `max_tokens` positions: as many
    /// as will be used, where that is known.
    pub(super) fn positions(&self, max_tokens: usize) -> usize {
        self.max_tokens.map_or(max_tokens, |most| most.clamp(1, max_tokens))
    }
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

/// A model's files, opened: its configuration, and the checkpoints its tensors are looked up in.
pub struct Files {
    pub config: Config,
    pub checkpoints: Vec<Arc<Checkpoint>>,
}

/// One row of the registry.
pub struct Family {
    /// `model_type` of `config.json`.
    pub model_type: &'static str,
    /// Reads the configuration and builds the graph.
    pub build: fn(&Files, &BuildOptions) -> Result<Model>,
}
