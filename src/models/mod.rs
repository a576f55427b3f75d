//! Model families: one file each, registered by `model_type`.
//!
//! A family reads `config.json`, checks it, and builds a [`Graph`] under the checkpoint's own
//! tensor names. It never names a shader or a device.

mod albert;
mod bart;
mod bert;
mod decoder;
mod distilbert;
mod electra;
mod encoder;
mod encoder_decoder;
mod gemma;
mod gpt2;
mod gpt_neox;
mod grouped;
mod heads;
mod info;
mod llama;
mod loss;
mod mpnet;
mod opt;
mod outputs;
mod post_norm;
mod roberta;
mod rope;
mod seq2seq;
mod t5;
mod unused;
mod vaswani;

use std::path::Path;
use std::sync::Arc;

pub use info::{Class, DecoderInfo, Kind, ModelInfo, UNLIMITED, labels};
pub(crate) use loss::IGNORED;
pub use loss::{LABELS, LOSS, token_losses};
pub use outputs::{NEXT_TOKEN, POSITIONS, SAMPLING};

use crate::error::{Error, Result};
use crate::graph::{Graph, Weight};
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
    /// Only a language model's `logits` [batch, picks, vocabulary], at the tokens (the decoder's,
    /// behind an encoder) that the further input [`POSITIONS`] u32 [batch, picks] names: the
    /// projection of all tokens would cost more than all layers together.
    MaskedTokens,
    /// The encoder of an encoder-decoder: `encoder_last_hidden_state`, and every decoder
    /// layer's keys and values of it, kept in states for [`Outputs::Decode`].
    Encode,
    /// One step of a decoder that keeps keys and values: `logits` [batch, vocabulary] of the
    /// last token and [`NEXT_TOKEN`], the likeliest id.
    Decode,
}

/// How a model is built.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// Storage of matrices; `None` keeps the file's.
    pub dtype: Option<DType>,
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
pub(crate) struct Files {
    config: Config,
    checkpoints: Vec<Arc<Checkpoint>>,
}

/// One row of the registry.
struct Family {
    model_type: &'static str,
    build: fn(&Files, &BuildOptions) -> Result<Model>,
}

#[rustfmt::skip] // one family per line
const FAMILIES: &[Family] = &[
    albert::FAMILY,
    bart::BART,
    bart::MARIAN,
    bart::MBART,
    bart::PEGASUS,
    bert::FAMILY,
    distilbert::FAMILY,
    electra::FAMILY,
    encoder_decoder::FAMILY,
    gemma::GEMMA2,
    gemma::GEMMA3,
    gpt2::FAMILY,
    gpt_neox::FAMILY,
    llama::LLAMA,
    llama::MISTRAL,
    llama::QWEN2,
    llama::QWEN3,
    mpnet::FAMILY,
    opt::FAMILY,
    roberta::CAMEMBERT,
    roberta::FAMILY,
    roberta::XLM,
    t5::MT5,
    t5::T5,
    vaswani::FAMILY,
];

/// Reads a model folder in Hugging Face layout and builds its graph. No weight is read yet.
///
/// Errors name the file, field or tensor: a missing or malformed file, an unknown
/// `model_type` (the known ones are listed), a config feature that is not supported, a tensor
/// whose shape is not the config's.
pub fn open(folder: impl AsRef<Path>, options: &BuildOptions) -> Result<Model> {
    let folder = folder.as_ref();
    let config = Config::open(folder)?;
    let checkpoint = Arc::new(Checkpoint::open(folder)?);
    build(&Files { config, checkpoints: vec![checkpoint] }, options)
}

/// The same for a head on another folder's trunk: `head` is a folder with a configuration of
/// its own and the tensors that the trunk's checkpoint lacks or that replace some of it. The
/// trunk's weights on a device are shared by all its heads.
pub fn open_head(
    trunk: impl AsRef<Path>,
    head: impl AsRef<Path>,
    options: &BuildOptions,
) -> Result<Model> {
    let head = head.as_ref();
    let config = Config::open(head)?;
    let checkpoints = [head, trunk.as_ref()].map(Checkpoint::open);
    let checkpoints = checkpoints.into_iter().map(|c| c.map(Arc::new)).collect::<Result<_>>()?;
    build(&Files { config, checkpoints }, options)
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let model_type = config.model_type()?;
    let family = FAMILIES.iter().find(|f| f.model_type == model_type).ok_or_else(|| {
        if config.get("text_config").is_some() {
            let found = format!("`{model_type}` with a `text_config`, a model of more than text");
            let expected = "a text model, as `gemma3_text` is of `gemma3`";
            return config.error("model_type", found, expected);
        }
        let known: Vec<_> = FAMILIES.iter().map(|f| f.model_type).collect();
        let message = format!("model_type `{model_type}` is unknown; known: {}", known.join(", "));
        Error::file(config.path(), message)
    })?;
    let mut model = (family.build)(files, options)?;
    model.notices.splice(0..0, config.notices().iter().cloned());
    let used: Vec<_> = model.graph.weights().into_iter().map(Weight::name).collect();
    let stored = files.checkpoints.iter().flat_map(|checkpoint| checkpoint.names());
    model.notices.extend(unused::extra_layers(used.iter().copied(), stored));
    Ok(model)
}
