//! The registry of families, and how a folder becomes a model.

use std::path::Path;
use std::sync::Arc;

use super::frame::unused;
use super::model::{BuildOptions, Family, Files, Model};
use super::{
    albert, bart, bert, distilbert, electra, encoder_decoder, gemma, gpt_bigcode, gpt_neox, gpt2,
    granite, llama, modernbert, mpnet, olmo2, opt, phi3, roberta, smollm3, starcoder2, t5, vaswani,
};
use crate::error::{Error, Result};
use crate::graph::{Graph, Weight};
use crate::weights::{Checkpoint, Config};

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
    gemma::GEMMA,
    gemma::GEMMA2,
    gemma::GEMMA3,
    gpt2::FAMILY,
    gpt_bigcode::FAMILY,
    gpt_neox::FAMILY,
    granite::FAMILY,
    llama::LLAMA,
    llama::MISTRAL,
    llama::QWEN2,
    llama::QWEN3,
    modernbert::FAMILY,
    mpnet::FAMILY,
    olmo2::FAMILY,
    opt::FAMILY,
    phi3::FAMILY,
    roberta::CAMEMBERT,
    roberta::FAMILY,
    roberta::XLM,
    smollm3::FAMILY,
    starcoder2::FAMILY,
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
    let extra = unused::extra_layers(used.iter().copied(), stored);
    let refused = refused(&model.graph, options);
    model.notices.extend(extra.into_iter().chain(refused));
    Ok(model)
}

/// How many matrices and tables keep the file's dtype, since their rows are not whole blocks of
/// the format that was asked for.
fn refused(graph: &Graph, options: &BuildOptions) -> Option<String> {
    let format = options.dtype?;
    let kept: Vec<_> = graph.weights().into_iter().filter(|w| w.refused()).collect();
    let first = kept.first()?;
    Some(format!(
        "{} of the weights keep the file's dtype: {format} takes rows that are multiples of {}, and \
         `{}` is {}",
        kept.len(),
        format.block(),
        first.name(),
        first.meta()
    ))
}
