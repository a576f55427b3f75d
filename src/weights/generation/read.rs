//! A generation config from its file, from JSON text, or from an older model's `config.json`.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::{BEAMS, COUNT, EarlyStopping, GenerationConfig, LENGTH, LENGTH_PENALTY};
use super::{PENALTY, PROBABILITY, TEMPERATURE, TOP_K, keys};
use crate::error::Result;
use crate::files::show;
use crate::weights::config::Config;

/// What errors call a configuration given as JSON text instead of a file.
const INLINE: &str = "generation config";

impl GenerationConfig {
    /// Reads `generation_config.json` of a model folder. `model` is the folder's `config.json`:
    /// it gives the special ids that the file leaves out, and everything when there is no such
    /// file, as older checkpoints have it. `vocab_size` is the decoder's.
    ///
    /// Errors: a value of the wrong kind or out of range, a token id that is not below
    /// `vocab_size`, a feature of Hugging Face's that is on and not supported.
    pub fn open(folder: impl AsRef<Path>, model: &Config, vocab_size: usize) -> Result<Self> {
        let path = folder.as_ref().join("generation_config.json");
        match path.symlink_metadata() {
            Ok(_) => Self::read(Some(&Config::open_file(path)?), model, vocab_size),
            Err(_) => Self::read(None, &filled(model, vocab_size)?, vocab_size),
        }
    }

    /// Reads a configuration that replaces the folder's: the name of a file, or JSON text, which
    /// begins with `{`. Special ids that it leaves out come from `model`.
    ///
    /// Errors: as [`open`](Self::open).
    pub fn from_argument(argument: &str, model: &Config, vocab_size: usize) -> Result<Self> {
        let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(argument).is_ok();
        let inline = argument.trim_start().starts_with('{');
        let own = if inline || !Path::new(argument).exists() && is_json() {
            Config::parse(INLINE, argument)?
        } else {
            Config::open_file(argument)?
        };
        Self::read(Some(&own), &filled(model, vocab_size)?, vocab_size)
    }

    fn read(own: Option<&Config>, model: &Config, vocab: usize) -> Result<Self> {
        // An encoder-decoder made of two models, and a model with a text part, keep ids there.
        let inner = match model.section("decoder")? {
            None => model.section("text_config")?,
            found => found,
        };
        let source = Source { own, model, inner: inner.as_ref(), asked: RefCell::default() };
        keys::refuse_unsupported(|field| source.of(field))?;
        let default = Self::default();
        let count = |field| source.of(field).opt_usize(field, COUNT);
        let length = |field| source.of(field).opt_usize(field, LENGTH);
        let number = |field, default, range| source.of(field).f32_or(field, default, range);
        let flag = |field| source.of(field).bool_or(field, false);
        let tokens = |field| source.of(field).token_ids(field, vocab);
        let special = |field| source.id(field).token_id(field, vocab);
        let mut notices = Vec::new();
        let mut config = Self {
            max_new_tokens: count("max_new_tokens")?,
            max_length: count("max_length")?,
            min_new_tokens: length("min_new_tokens")?,
            min_length: length("min_length")?.unwrap_or(default.min_length),
            do_sample: flag("do_sample")?,
            temperature: number("temperature", default.temperature, TEMPERATURE)?,
            top_k: source.of("top_k").usize_or("top_k", default.top_k, TOP_K)?,
            top_p: number("top_p", default.top_p, PROBABILITY)?,
            min_p: number("min_p", default.min_p, PROBABILITY)?,
            repetition_penalty: number("repetition_penalty", default.repetition_penalty, PENALTY)?,
            no_repeat_ngram_size: length("no_repeat_ngram_size")?.unwrap_or(0),
            num_beams: source.of("num_beams").usize_or("num_beams", default.num_beams, BEAMS)?,
            length_penalty: number("length_penalty", default.length_penalty, LENGTH_PENALTY)?,
            early_stopping: early_stopping(source.of("early_stopping"))?,
            eos_token_id: source.id("eos_token_id").token_ids("eos_token_id", vocab)?,
            pad_token_id: pad(source.id("pad_token_id"), vocab, &mut notices)?,
            bos_token_id: special("bos_token_id")?,
            decoder_start_token_id: special("decoder_start_token_id")?,
            forced_bos_token_id: source.of(FORCED_BOS).token_id(FORCED_BOS, vocab)?,
            forced_eos_token_id: tokens(FORCED_EOS)?,
            bad_words_ids: bad_words(source.of("bad_words_ids"), vocab)?,
            suppress_tokens: tokens("suppress_tokens")?,
            begin_suppress_tokens: tokens("begin_suppress_tokens")?,
            stop_strings: stop_strings(source.of("stop_strings"))?,
            renormalize_logits: flag("renormalize_logits")?,
            remove_invalid_values: flag("remove_invalid_values")?,
            notices,
        };
        if let Some(own) = own {
            let asked = source.asked.borrow();
            config.notices.extend_from_slice(own.notices());
            config.notices.extend(keys::unknown(own, |key| asked.contains(key)));
        }
        let forced = [
            (FORCED_BOS, config.forced_bos_token_id.as_slice()),
            (FORCED_EOS, config.forced_eos_token_id.as_slice()),
        ];
        for (field, ids) in forced {
            if !ids.is_empty() && ids.iter().all(|id| config.suppress_tokens.contains(id)) {
                let expected = "a token that is not among `suppress_tokens`";
                return Err(source.of(field).error(field, ids[0], expected));
            }
        }
        if let (Some(min), Some(max)) = (config.min_new_tokens, config.max_new_tokens)
            && min > max
        {
            config.notices.push(format!(
                "{}: `min_new_tokens` is {min}, but `max_new_tokens` stops generation at {max}",
                source.of("max_new_tokens").path().display()
            ));
        }
        Ok(config)
    }
}

/// `config.json` with the special ids that a model class of transformers has where the file does
/// not state them.
fn filled(model: &Config, vocab_size: usize) -> Result<Config> {
    let (eos, start, forced) = ("eos_token_id", "decoder_start_token_id", FORCED_EOS);
    let ids: &[_] = match model.opt_str("model_type")?.unwrap_or_default() {
        "gpt2" => &[(eos, 50_256)],
        "llama" | "mistral" | "opt" | "gpt_neox" => &[(eos, 2)],
        "gemma2" | "gemma3_text" | "t5" => &[(eos, 1)],
        "mt5" => &[(eos, 1), (start, 0)],
        "bart" => &[(eos, 2), (start, 2), (forced, 2)],
        "mbart" => &[(eos, 2), (forced, 2)],
        "marian" => &[(eos, 0), (start, 58_100), (forced, 0)],
        "pegasus" => &[(eos, 1), (start, 0), (forced, 1)],
        _ => &[],
    };
    let known = ids.iter().filter(|(_, id)| *id < vocab_size);
    Ok(model.with_defaults(known.map(|&(field, id)| (field, id.into()))))
}

const FORCED_BOS: &str = "forced_bos_token_id";
const FORCED_EOS: &str = "forced_eos_token_id";

/// Where fields are looked for.
struct Source<'a> {
    /// The generation config, if there is one.
    own: Option<&'a Config>,
    /// `config.json`, and the part of it that describes the decoder.
    model: &'a Config,
    inner: Option<&'a Config>,
    /// Every field that was looked for, which is every field known.
    asked: RefCell<HashSet<&'static str>>,
}

impl<'a> Source<'a> {
    /// The configuration to read a field from: the generation config, or else `config.json`.
    fn of(&self, field: &'static str) -> &'a Config {
        self.asked.borrow_mut().insert(field);
        self.own.unwrap_or_else(|| self.in_model(field))
    }

    /// The same for a special id, which a generation config may leave to `config.json`; its
    /// `null` says that there is none.
    fn id(&self, field: &'static str) -> &'a Config {
        self.asked.borrow_mut().insert(field);
        self.own.filter(|own| own.states(field)).unwrap_or_else(|| self.in_model(field))
    }

    fn in_model(&self, field: &str) -> &'a Config {
        match self.inner {
            Some(inner) if self.model.get(field).is_none() => inner,
            _ => self.model,
        }
    }
}

fn early_stopping(config: &Config) -> Result<EarlyStopping> {
    const FIELD: &str = "early_stopping";
    match config.get(FIELD) {
        None | Some(Value::Bool(false)) => Ok(EarlyStopping::Heuristic),
        Some(Value::Bool(true)) => Ok(EarlyStopping::Yes),
        Some(Value::String(text)) if text == "never" => Ok(EarlyStopping::Never),
        Some(other) => Err(config.error(FIELD, show(other), "true, false or \"never\"")),
    }
}

/// Checkpoints without a pad token have said -1.
fn pad(config: &Config, vocab: usize, notices: &mut Vec<String>) -> Result<Option<u32>> {
    const FIELD: &str = "pad_token_id";
    if config.get(FIELD).and_then(Value::as_i64) == Some(-1) {
        notices.push(format!("{}: `{FIELD}` is -1: no pad token", config.path().display()));
        return Ok(None);
    }
    config.token_id(FIELD, vocab)
}

fn bad_words(config: &Config, vocab: usize) -> Result<Vec<Vec<u32>>> {
    const FIELD: &str = "bad_words_ids";
    const EXPECTED: &str = "a list of lists of token ids, none of them empty";
    let Some(value) = config.get(FIELD) else { return Ok(Vec::new()) };
    let Some(words) = value.as_array() else {
        return Err(config.error(FIELD, show(value), EXPECTED));
    };
    words
        .iter()
        .map(|word| match word.as_array() {
            Some(ids) if !ids.is_empty() => config.ids_below(FIELD, ids, vocab),
            _ => Err(config.error(FIELD, format!("a list with {}", show(word)), EXPECTED)),
        })
        .collect()
}

fn stop_strings(config: &Config) -> Result<Vec<String>> {
    const FIELD: &str = "stop_strings";
    let texts = match config.get(FIELD) {
        Some(Value::String(text)) => vec![text.as_str()],
        _ => config.strings(FIELD)?,
    };
    if texts.iter().any(|text| text.is_empty()) {
        return Err(config.error(FIELD, "an empty string", "texts that end the generation"));
    }
    Ok(texts.into_iter().map(str::to_owned).collect())
}
