//! Checks of `tokenizer.json` before the `tokenizers` crate sees it: what that crate would
//! answer with a panic, a silent loss of tokens or unbounded work is an error here.

use std::collections::HashMap;

use serde_json::{Map, Value};
use tokenizers::utils::SysRegex;

use super::{charsmap, oniguruma, pattern};
use crate::files::{one_line, show};

/// Ids must leave room for tokens added later.
const MAX_ID: u64 = 1 << 31;

/// The deepest `Sequence` within `Sequence`; real files have two. Each level is copied whole
/// while it is parsed.
const MAX_NESTING: usize = 16;

/// WordPiece tries every substring of a word, so its cost grows with this squared.
const MAX_WORD_CHARS: u64 = 1000;

/// Times that a normaliser or a decoder may make a text longer; T5's and Llama's triple the spaces.
const MAX_GROWTH: usize = 256;

/// Bytes of what a model adds to each piece of a word: real files have 2 (`##`) to 4 (`</w>`).
const MAX_AFFIX: usize = 64;

type Check = Result<(), String>;

/// Checks a parsed `tokenizer.json`; the message lacks only the file's name.
pub(super) fn check(file: &Value) -> Check {
    if !file.is_object() {
        return Err(format!("is {}; an object is expected", show(file)));
    }
    let model = file
        .get("model")
        .and_then(Value::as_object)
        .ok_or("`model` is missing; an object is expected")?;
    check_model(model)?;
    for token in added_tokens(file)? {
        if token.content.is_empty() {
            return Err(format!("added token {} is empty", token.id));
        }
    }
    for part in ["normalizer", "pre_tokenizer", "decoder"] {
        if let Some(value) = file.get(part) {
            check_part(part, value, 0)?;
            let growth = growth(value);
            if growth > MAX_GROWTH {
                return Err(format!(
                    "`{part}` may make a text {growth} times as long; at most {MAX_GROWTH} is expected"
                ));
            }
        }
    }
    match file.get("post_processor") {
        Some(processor) => check_processor(processor, 0, &mut 0),
        None => Ok(()),
    }
}

/// A token of the `added_tokens` list.
pub(super) struct Added<'a> {
    pub id: u32,
    pub content: &'a str,
}

/// The `added_tokens` list.
pub(super) fn added_tokens(file: &Value) -> Result<Vec<Added<'_>>, String> {
    let tokens = match file.get("added_tokens") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(tokens)) => tokens,
        Some(other) => {
            return Err(format!("`added_tokens` is {}; a list is expected", show(other)));
        }
    };
    tokens
        .iter()
        .map(|token| {
            let content = token.get("content").and_then(Value::as_str);
            let content = content.ok_or("an added token without `content`")?;
            Ok(Added { id: id(content, token.get("id").unwrap_or(&Value::Null))?, content })
        })
        .collect()
}

fn id(token: &str, value: &Value) -> Result<u32, String> {
    value.as_u64().filter(|id| *id < MAX_ID).map(|id| id as u32).ok_or_else(|| {
        format!(
            "the id of token `{}` is {}; a whole number below {MAX_ID} is expected",
            one_line(token),
            show(value)
        )
    })
}

fn check_model(model: &Map<String, Value>) -> Check {
    let vocab = model.get("vocab").ok_or("`model.vocab` is missing")?;
    let Value::Object(vocab) = vocab else {
        // A Unigram model: a list of tokens and scores, whose places are the ids.
        return if vocab.is_array() {
            Ok(())
        } else {
            Err(format!("`model.vocab` is {}; an object or a list is expected", show(vocab)))
        };
    };
    let mut owners: HashMap<u32, &str> = HashMap::with_capacity(vocab.len());
    for (token, value) in vocab {
        let id = id(token, value)?;
        if let Some(other) = owners.insert(id, token) {
            return Err(format!(
                "tokens `{}` and `{}` both have the id {id}",
                one_line(other),
                one_line(token)
            ));
        }
    }
    if let Some(longest) = model.get("max_input_chars_per_word")
        && longest.as_u64().is_none_or(|n| n > MAX_WORD_CHARS)
    {
        return Err(format!(
            "`max_input_chars_per_word` is {}; at most {MAX_WORD_CHARS} is accepted",
            show(longest)
        ));
    }
    for affix in ["continuing_subword_prefix", "end_of_word_suffix"] {
        let bytes = model.get(affix).and_then(Value::as_str).map_or(0, str::len);
        if bytes > MAX_AFFIX {
            return Err(format!("`{affix}` has {bytes} bytes; at most {MAX_AFFIX} is accepted"));
        }
    }
    if model.get("dropout").and_then(Value::as_f64).is_some_and(|p| p != 0.0) {
        return Err("`dropout` is not 0: tokens would be drawn at random".into());
    }
    check_merges(model, vocab)
}

/// Both parts of a merge and what they form must be tokens. The crate copies them into a buffer
/// as long as the longest token, and cuts the prefix off the second part unseen.
fn check_merges(model: &Map<String, Value>, vocab: &Map<String, Value>) -> Check {
    let Some(Value::Array(merges)) = model.get("merges") else { return Ok(()) };
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or("");
    let mut merged = String::new();
    for (at, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(line) if line.starts_with("#version") => continue,
            Value::String(line) => line.split_once(' ').filter(|(_, b)| !b.contains(' ')),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(a), Value::String(b)] => Some((a.as_str(), b.as_str())),
                _ => None,
            },
            _ => None,
        };
        let (a, b) =
            pair.ok_or_else(|| format!("merge {at} is {}; two tokens are expected", show(merge)))?;
        let unknown = |token: &str| {
            format!(
                "merge {at} needs the token `{}`, which is not in the vocabulary",
                one_line(token)
            )
        };
        for token in [a, b] {
            if !vocab.contains_key(token) {
                return Err(unknown(token));
            }
        }
        let tail = b.strip_prefix(prefix).ok_or_else(|| {
            format!(
                "merge {at}: its second token `{}` lacks the prefix `{}`",
                one_line(b),
                one_line(prefix)
            )
        })?;
        merged.clear();
        merged.push_str(a);
        merged.push_str(tail);
        if !vocab.contains_key(&merged) {
            return Err(unknown(&merged));
        }
    }
    Ok(())
}

/// A normaliser, pre-tokeniser or decoder, or a sequence of them.
fn check_part(part: &str, value: &Value, depth: usize) -> Check {
    if depth > MAX_NESTING {
        return Err(format!("`{part}` nests more than {MAX_NESTING} sequences"));
    }
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("");
    for list in ["normalizers", "pretokenizers", "decoders"] {
        for inner in value.get(list).and_then(Value::as_array).into_iter().flatten() {
            check_part(part, inner, depth + 1)?;
        }
    }
    if let Some(Value::String(regex)) = value.get("pattern").and_then(|p| p.get("Regex")) {
        pattern::check(regex)
            .map_err(|e| format!("`{part}`: pattern `{}` {e}", one_line(regex)))?;
    }
    match kind {
        // The crate indexes past the end of a text whose end matches.
        "Replace" if value.get("pattern").is_some_and(matches_nothing) => {
            Err(format!("`{part}`: Replace with a pattern that matches an empty text"))
        }
        "Precompiled" => {
            let map = value.get("precompiled_charsmap").and_then(Value::as_str);
            let map = map.ok_or("`precompiled_charsmap` is missing; a string is expected")?;
            charsmap::check(map).map_err(|e| format!("`precompiled_charsmap` {e}"))
        }
        "FixedLength" if value.get("length").and_then(Value::as_u64) == Some(0) => {
            Err("`FixedLength` of length 0; at least 1 is expected".into())
        }
        // The crate counts from the end of tokens shorter than `stop`, below zero.
        "Strip" if value.get("stop").and_then(Value::as_u64).is_some_and(|n| n > 0) => {
            Err(format!("`{part}`: Strip with `stop` above 0 is not supported"))
        }
        _ => Ok(()),
    }
}

/// Whether a pattern finds empty matches.
fn matches_nothing(pattern: &Value) -> bool {
    if let Some(text) = pattern.get("String") {
        return text == "";
    }
    let regex = pattern.get("Regex").and_then(Value::as_str);
    let regex = regex.and_then(|r| oniguruma::translate(r).ok()).map(|r| SysRegex::new(&r));
    let Some(Ok(regex)) = regex else { return false };
    let empty = |text: &str| regex.find_iter(text).any(|(start, end)| start == end);
    ["", " ", "a", "1", ".", "a b\n"].into_iter().any(empty)
}

/// A step that makes a text longer: what it reads, `None` for anything, what it writes, and how
/// many times longer that is.
type Step<'a> = (Option<&'a str>, &'a str, usize);

/// How many times longer a normaliser or a decoder can make a text, in bytes: steps multiply where
/// one may read what another wrote.
fn growth(value: &Value) -> usize {
    let mut steps = Vec::new();
    collect(value, &mut steps);
    let mut grown: Vec<usize> = Vec::with_capacity(steps.len());
    for (i, (reads, _, own)) in steps.iter().enumerate() {
        let feeds = |written: &str| reads.is_none_or(|r| r.chars().any(|c| written.contains(c)));
        let before = steps[..i].iter().zip(&grown).filter(|((_, written, _), _)| feeds(written));
        let most = before.map(|(_, grown)| *grown).max().unwrap_or(1);
        grown.push(most.saturating_mul(*own));
    }
    grown.into_iter().max().unwrap_or(1)
}

fn collect<'a>(value: &'a Value, steps: &mut Vec<Step<'a>>) {
    for list in ["normalizers", "decoders"] {
        for inner in value.get(list).and_then(Value::as_array).into_iter().flatten() {
            collect(inner, steps);
        }
    }
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str);
    match value.get("type").and_then(Value::as_str) {
        Some("Replace") => {
            let (reads, writes) = (text("/pattern/String"), text("/content").unwrap_or(""));
            let replaced = reads.map_or(1, str::len).max(1);
            steps.push((reads, writes, writes.len().div_ceil(replaced).max(1)));
        }
        // Before a text of one byte.
        Some("Prepend") => {
            let writes = text("/prepend").unwrap_or("");
            steps.push((None, writes, 1 + writes.len()));
        }
        _ => {}
    }
}

/// A post-processor. `templates` counts those that add tokens: the crate ends in `todo!` when a
/// second one is given the pieces of the first.
fn check_processor(value: &Value, depth: usize, templates: &mut usize) -> Check {
    if depth > MAX_NESTING {
        return Err(format!("`post_processor` nests more than {MAX_NESTING} sequences"));
    }
    for inner in value.get("processors").and_then(Value::as_array).into_iter().flatten() {
        check_processor(inner, depth + 1, templates)?;
    }
    let adds = value.get("single").is_some() || value.get("sep").is_some();
    if adds {
        *templates += 1;
        if *templates > 1 {
            return Err("`post_processor` adds special tokens twice".into());
        }
    }
    for (field, sequences) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
        let Some(pieces) = value.get(field).and_then(Value::as_array) else { continue };
        for piece in pieces {
            if let Some(sequence) = piece.pointer("/Sequence/id").and_then(Value::as_str)
                && !sequences.contains(&sequence)
            {
                return Err(format!(
                    "`post_processor.{field}` uses sequence `{}`; expected {}",
                    one_line(sequence),
                    sequences.join(" or ")
                ));
            }
            if let Some(token) = piece.pointer("/SpecialToken/id").and_then(Value::as_str) {
                check_special(value, token)?;
            }
        }
    }
    Ok(())
}

fn check_special(processor: &Value, token: &str) -> Check {
    let entry = processor.get("special_tokens").and_then(|tokens| tokens.get(token));
    let count = |key| entry.and_then(|e| e.get(key)).and_then(Value::as_array).map(Vec::len);
    match (count("ids"), count("tokens")) {
        (Some(ids), Some(tokens)) if ids == tokens => Ok(()),
        (None, _) | (_, None) => Err(format!(
            "`post_processor` uses `{}`, which its `special_tokens` do not define",
            one_line(token)
        )),
        (Some(ids), Some(tokens)) => Err(format!(
            "`post_processor` gives `{}` {ids} ids and {tokens} tokens; as many are expected",
            one_line(token)
        )),
    }
}
