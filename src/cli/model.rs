//! What the commands that take `--model` share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::context::Context;
use super::hub::Name;
use crate::engine::{self, Shipped, model_inputs};
use crate::error::{Error, Result};
use crate::models::{self, BuildOptions, Model, ModelInfo, Outputs};
use crate::ops::Rng;
use crate::tensor::{DType, Tensor};
use crate::weights::SafeTensors;

/// `--model DIR-or-NAME-or-REPOSITORY`.
#[derive(clap::Args)]
pub(super) struct ModelArg {
    /// Folder in Hugging Face layout, the name of a shipped demo model, or org/name[@revision],
    /// downloaded once into the Hugging Face cache
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Another head on that model: a folder, or the name of one under its heads/
    #[arg(long, value_name = "HEAD")]
    pub head: Option<PathBuf>,
}

impl ModelArg {
    /// The folder; an error that says what one looks like when there is none.
    pub fn folder(&self, context: &Context) -> Result<PathBuf> {
        Ok(self.resolve(context)?.folder)
    }

    /// The folder, and the head's where one was asked for or the model's name stands for one.
    pub fn resolve(&self, context: &Context) -> Result<Shipped> {
        let name = self.model.to_str().unwrap_or_default();
        let mut found = if self.model.is_dir() {
            Shipped { folder: self.model.clone(), head: None }
        } else if let Some(shipped) = engine::shipped(name) {
            shipped
        } else if let Some(name) = Name::parse(name).filter(|_| !self.model.exists()) {
            Shipped { folder: name.folder(context)?, head: None }
        } else {
            let names: Vec<_> = engine::shipped_names().collect();
            let message = format!(
                "no such folder; --model takes one in Hugging Face layout (config.json, \
                 model.safetensors, tokenizer.json), org/name[@revision] of a repository in that \
                 layout, or a shipped model: {}",
                names.join(", ")
            );
            return Err(Error::file(&self.model, message));
        };
        if let Some(head) = &self.head {
            let inside = found.folder.join("heads").join(head);
            found.head = Some(if head.is_dir() { head.clone() } else { inside });
        }
        match &found.head {
            Some(head) if !head.is_dir() => {
                let message = "no such folder; --head takes one with config.json and \
                               model.safetensors, or the name of one under the model's heads/";
                Err(Error::file(head, message))
            }
            _ => Ok(found),
        }
    }

    /// Builds the model and says its notices on stderr.
    pub fn open(&self, context: &Context, hidden_states: bool) -> Result<Model> {
        let outputs = Outputs::Class { hidden_states };
        let options =
            BuildOptions { dtype: context.weight_dtype()?, outputs, ..BuildOptions::default() };
        let Shipped { folder, head } = self.resolve(context)?;
        let model = match head {
            Some(head) => models::open_head(folder, head, &options)?,
            None => models::open(folder, &options)?,
        };
        model.notices.iter().for_each(|n| context.notice(n));
        Ok(model)
    }
}

/// How a model's keys and values are kept from one generated token to the next.
#[derive(clap::Args)]
pub(super) struct CacheArg {
    /// Storage of keys and values that are kept from token to token
    #[arg(long, value_enum, default_value = "f32", value_name = "DTYPE")]
    cache_dtype: CacheType,
}

#[derive(Clone, Copy, ValueEnum)]
enum CacheType {
    /// As they are computed
    F32,
    /// Half the memory and traffic, at 11 bits of precision
    F16,
}

impl CacheArg {
    pub fn dtype(&self) -> DType {
        match self.cache_dtype {
            CacheType::F32 => DType::F32,
            CacheType::F16 => DType::F16,
        }
    }

    /// Options of a model that generates at most so many tokens, prompts included.
    pub fn options(&self, context: &Context, max_tokens: usize) -> Result<BuildOptions> {
        Ok(BuildOptions {
            dtype: context.weight_dtype()?,
            max_tokens: Some(max_tokens),
            cache: self.dtype(),
            ..BuildOptions::default()
        })
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
    let mut inputs = BTreeMap::new();
    let mut draw = |name: &str, tokens: usize, below: usize| -> Result<()> {
        let ids = (0..batch * tokens).map(|_| rng.below(below) as u32).collect();
        inputs.insert(name.to_owned(), Tensor::u32([batch, tokens], ids)?);
        Ok(())
    };
    draw("input_ids", tokens, info.vocab_size)?;
    if info.type_vocab_size > 0 {
        draw("token_type_ids", tokens, info.type_vocab_size)?;
    }
    if let Some(decoder) = info.decoder {
        draw("decoder_input_ids", tokens.min(decoder.max_tokens), decoder.vocab_size)?;
    }
    if padded && batch > 1 {
        let mut mask = vec![1; batch * tokens];
        mask[batch * tokens - tokens / 2..].fill(0);
        inputs.insert("attention_mask".to_owned(), Tensor::u32([batch, tokens], mask)?);
    }
    model_inputs(info, inputs)
}
