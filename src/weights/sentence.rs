//! The files that sentence-transformers adds to a model folder: `modules.json`, the pooling
//! module's `config.json` and `sentence_bert_config.json`.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::config::Config;
use crate::error::{Error, Result};
use crate::files::{one_line, read_json, show};

/// How token vectors become one sentence vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// Mean over the tokens that are not padding, special tokens included.
    Mean,
    /// The first token's vector.
    Cls,
    /// Not a sentence's vector but its words' weights, `max_t ln(1 + max(logit, 0))` over the
    /// vocabulary by the head for masked tokens (SPLADE).
    Splade,
}

/// What a sentence embedding is made of, after the transformer itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentenceConfig {
    /// Folder of the transformer's own files: the model folder or one inside it.
    pub transformer: PathBuf,
    /// Pooling over tokens.
    pub pooling: Pooling,
    /// Whether the vector is scaled to length 1.
    pub normalize: bool,
    /// The most tokens taken of a text, special tokens included.
    pub max_seq_length: Option<usize>,
    /// Whether the text is put in lower case before it is tokenised.
    pub lower_case: bool,
}

/// Every pooling mode: its flag in older files, its name in newer ones, and ours.
const MODES: [(&str, &str, Option<Pooling>); 6] = [
    ("pooling_mode_cls_token", "cls", Some(Pooling::Cls)),
    ("pooling_mode_mean_tokens", "mean", Some(Pooling::Mean)),
    ("pooling_mode_max_tokens", "max", None),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", None),
    ("pooling_mode_weightedmean_tokens", "weightedmean", None),
    ("pooling_mode_lasttoken", "lasttoken", None),
];

impl SentenceConfig {
    /// Reads the files of a model folder; `None` without `modules.json`.
    ///
    /// Errors: a module of a kind other than Transformer, Pooling and Normalize, or MLMTransformer
    /// and SpladePooling, a pooling mode other than mean and cls, a module path that leaves the
    /// folder.
    pub fn open(folder: impl AsRef<Path>) -> Result<Option<Self>> {
        let folder = folder.as_ref();
        let path = folder.join("modules.json");
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let modules = read_json(&path)?;
        let Value::Array(modules) = &modules else {
            return Err(Error::file(&path, format!("is {}; a list is expected", show(&modules))));
        };
        let mut transformer = None;
        let mut pooling = None;
        let mut normalize = false;
        for module in modules {
            let text = |key: &str| {
                module.get(key).and_then(Value::as_str).ok_or_else(|| {
                    Error::file(&path, format!("a module without `{key}`; a string is expected"))
                })
            };
            let (kind, place) = (text("type")?, inside(&path, folder, text("path")?)?);
            let last = kind.rsplit('.').next().unwrap_or(kind);
            match (last, transformer.is_some(), pooling.is_some()) {
                ("Transformer" | "MLMTransformer", false, false) => transformer = Some(place),
                ("SpladePooling", true, false) => pooling = Some(open_splade(&place)?),
                ("Pooling", true, false) => pooling = Some(open_pooling(&place)?),
                ("Normalize", true, true) => normalize = true,
                _ => {
                    return Err(Error::file(
                        &path,
                        format!(
                            "module `{}` at this place; expected Transformer, Pooling and optionally Normalize, in this order",
                            one_line(kind)
                        ),
                    ));
                }
            }
        }
        let (Some(transformer), Some(pooling)) = (transformer, pooling) else {
            return Err(Error::file(&path, "lacks a Transformer or a Pooling module"));
        };
        let settings = transformer.join("sentence_bert_config.json");
        let (mut max_seq_length, mut lower_case) = (None, false);
        if settings.symlink_metadata().is_ok() {
            let settings = Config::open_file(&settings)?;
            max_seq_length = settings.opt_usize("max_seq_length", 1..=1 << 24)?;
            lower_case = settings.bool_or("do_lower_case", false)?;
        }
        Ok(Some(Self { transformer, pooling, normalize, max_seq_length, lower_case }))
    }
}

/// Weights of words, of the one kind that is computed.
fn open_splade(folder: &Path) -> Result<Pooling> {
    let config = Config::open(folder)?;
    for (field, known) in [("pooling_strategy", "max"), ("activation_function", "relu")] {
        let found = config.opt_str(field)?.unwrap_or(known);
        if found != known {
            return Err(config.error(field, format!("`{}`", one_line(found)), known));
        }
    }
    Ok(Pooling::Splade)
}

fn open_pooling(folder: &Path) -> Result<Pooling> {
    let config = Config::open(folder)?;
    let mut chosen = Vec::new();
    for (field, mode, pooling) in &MODES {
        if config.bool_or(field, false)? {
            chosen.push((*mode, *pooling));
        }
    }
    if chosen.is_empty() {
        // Newer files name the mode instead.
        let mode = config.str_field("pooling_mode")?;
        let pooling = MODES.iter().find(|(_, name, _)| *name == mode).and_then(|m| m.2);
        chosen.push((mode, pooling));
    }
    match chosen.as_slice() {
        [(_, Some(pooling))] => Ok(*pooling),
        _ => {
            let names: Vec<_> = chosen.iter().map(|(mode, _)| one_line(mode)).collect();
            Err(config.error("pooling_mode", format!("`{}`", names.join(" + ")), "mean or cls"))
        }
    }
}

/// The folder of a module, which must lie inside the model folder.
fn inside(file: &Path, folder: &Path, path: &str) -> Result<PathBuf> {
    let plain = !path.contains(['\\', ':'])
        && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    if !plain {
        return Err(Error::file(
            file,
            format!("module path `{}` leaves the model folder", one_line(path)),
        ));
    }
    Ok(if path.is_empty() { folder.to_owned() } else { folder.join(path) })
}
