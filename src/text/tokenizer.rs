//! The tokeniser of a model folder.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;
use tokenizers::EncodeInput;

use super::encoding::{Batch, Encoding};
use super::{check, oniguruma, vocab};
use crate::error::{Error, Result};
use crate::files::{one_line, parse_json, read_json, read_text, show};

/// The longest text that is encoded, in bytes: more than any model's context holds, and no more
/// than the regular expression engine's million steps, past which it silently stops splitting.
pub const MAX_TEXT_BYTES: usize = 1_000_000;

/// Turns text into token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    path: PathBuf,
    pub(super) inner: tokenizers::Tokenizer,
    pad_id: u32,
    mask_id: Option<u32>,
    max_id: u32,
    max_length: Option<usize>,
}

impl Tokenizer {
    /// Opens the tokeniser of a model folder: `tokenizer.json`, or else `vocab.txt` of BERT.
    /// The file's own truncation and padding are switched off.
    ///
    /// Errors name the file and what is wrong in it: not JSON, ids given twice or too large,
    /// merges of unknown tokens, patterns that backtrack for ever, templates that use
    /// undefined tokens, added tokens that are empty or cannot have the id they state.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let settings = optional(&folder.join("tokenizer_config.json"))?;
        let path = folder.join("tokenizer.json");
        let (path, mut text, mut file) = if path.symlink_metadata().is_ok() {
            let text = read_text(&path)?;
            let file = parse_json(&path, &text)?;
            (path, text, file)
        } else {
            let list = folder.join("vocab.txt");
            if list.symlink_metadata().is_err() {
                return Err(Error::file(folder, "holds neither tokenizer.json nor vocab.txt"));
            }
            let file = vocab::bert(&list, &settings)?;
            (list, file.to_string(), file)
        };
        let fail_with = |message| Error::file(&path, message);
        check::check(&file).map_err(fail_with)?;
        let mut changed = false;
        for part in ["normalizer", "pre_tokenizer", "decoder"] {
            if let Some(part) = file.get_mut(part) {
                changed |= oniguruma::translate_part(part).map_err(fail_with)?;
            }
        }
        if changed {
            text = file.to_string();
        }
        let mut inner = load(&path, &text)?;
        // Fails for a stride above the length only; with `None` there is neither.
        inner.with_truncation(None).map_err(|e| fail(&path, &e))?;
        inner.with_padding(None);

        for token in check::added_tokens(&file).map_err(|m| Error::file(&path, m))? {
            // The crate gives a token the next free id, whatever the file states.
            let id = inner.token_to_id(token.content);
            if id != Some(token.id) {
                let given = id.map_or("none".into(), |id| id.to_string());
                return Err(Error::file(
                    &path,
                    format!(
                        "added token `{}` states the id {}, but the vocabulary gives it {given}",
                        one_line(token.content),
                        token.id
                    ),
                ));
            }
        }
        let max_id = inner.get_vocab(true).into_values().max().unwrap_or(0);
        let map = optional(&folder.join("special_tokens_map.json"))?;
        let sources = [&settings, &map];
        let pad_id = pad_id(folder, &file, sources, &inner)?;
        let usual = ["[MASK]", "<mask>"].into_iter().find_map(|token| inner.token_to_id(token));
        let mask_id = special_id(sources, "mask_token", &inner).or(usual);
        let max_length = settings
            .get("model_max_length")
            .and_then(Value::as_u64)
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..1 << 32).contains(n));
        Ok(Self { path, inner, pad_id, mask_id, max_id, max_length })
    }

    /// The file the tokeniser was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id that pads a batch.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// The id of the token that stands for a word to be guessed, where there is one.
    pub fn mask_id(&self) -> Option<u32> {
        self.mask_id
    }

    /// The largest id of any token; ids below it may be unused.
    pub fn max_id(&self) -> u32 {
        self.max_id
    }

    /// The model's longest input in tokens, where `tokenizer_config.json` gives one.
    pub fn max_length(&self) -> Option<usize> {
        self.max_length
    }

    /// The id of a token by its exact spelling.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// How many special tokens are added to one text, or to a pair.
    pub fn special_tokens(&self, pair: bool) -> usize {
        use tokenizers::PostProcessor;
        self.inner.get_post_processor().map_or(0, |p| p.added_tokens(pair))
    }

    /// An error if any token's id, or the pad id, is not below `vocab_size`, the rows of the
    /// embedding.
    pub fn check_vocab(&self, vocab_size: usize) -> Result<()> {
        let (what, id) = if self.max_id as usize >= vocab_size {
            let token = self.token(self.max_id).unwrap_or_default();
            (format!("token `{}`", one_line(&token)), self.max_id)
        } else if self.pad_id as usize >= vocab_size {
            ("padding".to_owned(), self.pad_id)
        } else {
            return Ok(());
        };
        let message = format!("{what} has the id {id}; the model's vocabulary has {vocab_size}");
        Err(Error::file(&self.path, message))
    }

    /// Encodes one text, with the model's special tokens around it if `special`.
    pub fn encode(&self, text: &str, special: bool) -> Result<Encoding> {
        self.run(&[text], text.into(), special)
    }

    /// Encodes a pair of texts, such as question and context.
    pub fn encode_pair(&self, first: &str, second: &str, special: bool) -> Result<Encoding> {
        self.run(&[first, second], (first, second).into(), special)
    }

    fn run(&self, texts: &[&str], input: EncodeInput, special: bool) -> Result<Encoding> {
        for text in texts {
            if text.len() > MAX_TEXT_BYTES {
                return Err(Error::Argument(format!(
                    "a text of {} bytes; at most {MAX_TEXT_BYTES} can be encoded at once",
                    text.len()
                )));
            }
        }
        let encoding = guard(&self.path, || self.inner.encode_char_offsets(input, special))?;
        Ok(Encoding::new(&encoding))
    }

    /// Encodes texts in parallel, truncates each to `max_len` tokens (special tokens stay) and
    /// pads all to the longest.
    pub fn encode_batch<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        special: bool,
        max_len: Option<usize>,
    ) -> Result<Batch> {
        let encodings = texts
            .par_iter()
            .map(|text| self.encode(text.as_ref(), special))
            .collect::<Result<Vec<_>>>()?;
        Batch::new(encodings, max_len, self.pad_id)
    }

    /// Encodes pairs of texts as [`Tokenizer::encode_batch`] does single ones.
    pub fn encode_pairs<S: AsRef<str> + Sync>(
        &self,
        pairs: &[(S, S)],
        special: bool,
        max_len: Option<usize>,
    ) -> Result<Batch> {
        let encodings = pairs
            .par_iter()
            .map(|(first, second)| self.encode_pair(first.as_ref(), second.as_ref(), special))
            .collect::<Result<Vec<_>>>()?;
        Batch::new(encodings, max_len, self.pad_id)
    }

    /// The token of an id if it takes part in decoding.
    pub(super) fn shown(&self, id: u32, skip_special: bool) -> Option<String> {
        let special = |token: &str| self.inner.get_added_vocabulary().is_special_token(token);
        self.token(id).filter(|token| !(skip_special && special(token)))
    }

    /// Turns ids back into text, without special tokens if `skip_special`. Ids that are no
    /// token's are left out.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        // The crate's BPE decoder subtracts one from the number of tokens that are left.
        if !ids.iter().any(|id| self.shown(*id, skip_special).is_some()) {
            return Ok(String::new());
        }
        guard(&self.path, || self.inner.decode(ids, skip_special))
    }
}

fn load(path: &Path, text: &str) -> Result<tokenizers::Tokenizer> {
    guard(path, || text.parse())
}

/// Runs third-party code on third-party data. The panics known are ruled out by [`check`]; one
/// that is not becomes an error here. Nothing half-changed is seen again after a panic: loading
/// drops what it built, and encoding and decoding only fill caches.
fn guard<T>(path: &Path, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| fail(path, &e)),
        Err(_) => Err(Error::file(path, "the `tokenizers` crate cannot process this file")),
    }
}

fn fail(path: &Path, error: &tokenizers::Error) -> Error {
    Error::file(path, one_line(&error.to_string()))
}

/// A JSON file that may be missing.
pub(super) fn optional(path: &Path) -> Result<Value> {
    if path.symlink_metadata().is_err() {
        return Ok(Value::Null);
    }
    let value = read_json(path)?;
    if value.is_object() {
        return Ok(value);
    }
    Err(Error::file(path, format!("is {}; an object is expected", show(&value))))
}

/// The id of the token that `tokenizer_config.json` or `special_tokens_map.json` gives the
/// `role`, such as `mask_token`.
fn special_id(sources: [&Value; 2], role: &str, inner: &tokenizers::Tokenizer) -> Option<u32> {
    sources.into_iter().find_map(|source| {
        let token = source.get(role).map(|t| t.get("content").unwrap_or(t))?;
        inner.token_to_id(token.as_str()?)
    })
}

/// The pad id: of the token that has this role, else of `tokenizer.json`'s padding, else of
/// `config.json`, else 0.
fn pad_id(
    folder: &Path,
    file: &Value,
    sources: [&Value; 2],
    inner: &tokenizers::Tokenizer,
) -> Result<u32> {
    if let Some(id) = special_id(sources, "pad_token", inner) {
        return Ok(id);
    }
    let number =
        |value: Option<&Value>| value.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    if let Some(id) = number(file.pointer("/padding/pad_id")) {
        return Ok(id);
    }
    let config = optional(&folder.join("config.json"))?;
    Ok(number(config.get("pad_token_id")).unwrap_or(0))
}
