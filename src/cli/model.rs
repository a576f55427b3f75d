//! What the commands that take `--model` share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Context;
use crate::error::{Error, Result};
use crate::models::{self, BuildOptions, Model, ModelInfo, Outputs, model_inputs};
use crate::ops::Rng;
use crate::tensor::Tensor;
use crate::weights::SafeTensors;

/// `--model DIR`.
#[derive(clap::Args)]
pub(super) struct ModelArg {
    /// Folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
}

impl ModelArg {
    /// The folder; an error that says what one looks like when there is none.
    pub fn folder(&self) -> Result<&Path> {
        if self.model.is_dir() {
            return Ok(&self.model);
        }
        let message = "no such folder; --model takes one in Hugging Face layout (config.json, \
                       model.safetensors, tokenizer.json)";
        Err(Error::file(&self.model, message))
    }

    /// Builds the model and says its notices on stderr.
    pub fn open(&self, context: &Context, hidden_states: bool) -> Result<Model> {
        let outputs = Outputs::Class { hidden_states };
        let options =
            BuildOptions { dtype: context.weight_dtype()?, outputs, ..BuildOptions::default() };
        let model = models::open(self.folder()?, &options)?;
        model.notices.iter().for_each(|n| context.notice(n));
        Ok(model)
    }
}

/// Inputs from a file, completed and checked.
pub(super) fn read_inputs(info: &ModelInfo, path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let file = SafeTensors::open(path)?;
    let mut given = BTreeMap::new();
    for name in file.names().map(str::to_owned).collect::<Vec<_>>() {
        given.insert(name.clone(), file.read(&name)?);
    }
    model_inputs(info, given)
}

/// Tokens of random inputs at most; 64 MiB of ids.
const MOST_RANDOM: usize = 1 << 24;

/// Random ids, the last row padded from the middle on: for checks and benches without text.
pub(super) fn random_inputs(
    info: &ModelInfo,
    batch: usize,
    tokens: usize,
    padded: bool,
) -> Result<BTreeMap<String, Tensor>> {
    // Before anything is drawn: the sizes come from the command line.
    let most = info.max_tokens;
    if tokens > most || batch.saturating_mul(tokens) > MOST_RANDOM {
        let message = format!(
            "{batch} x {tokens} tokens: the model takes at most {most} per sequence, random \
             inputs have at most {MOST_RANDOM} in all"
        );
        return Err(Error::Argument(message));
    }
    let mut rng = Rng::new(7);
    let mut draw = |below| (0..batch * tokens).map(|_| rng.below(below) as u32).collect();
    let ids = Tensor::u32([batch, tokens], draw(info.vocab_size))?;
    let types = Tensor::u32([batch, tokens], draw(info.type_vocab_size))?;
    let mut mask = vec![1; batch * tokens];
    if padded && batch > 1 {
        mask[batch * tokens - tokens / 2..].fill(0);
    }
    let inputs = [
        ("input_ids", ids),
        ("attention_mask", Tensor::u32([batch, tokens], mask)?),
        ("token_type_ids", types),
    ];
    model_inputs(info, inputs.map(|(n, t)| (n.to_owned(), t)).into())
}

/// The form graphs and sessions take inputs in.
pub(super) fn by_name(inputs: &BTreeMap<String, Tensor>) -> Vec<(&str, &Tensor)> {
    inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}
