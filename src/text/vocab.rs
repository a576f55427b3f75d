//! A BERT folder of before `tokenizer.json`: `vocab.txt` and `tokenizer_config.json`.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::files::{one_line, read_text};

/// The `tokenizer.json` that describes the same tokeniser, to be checked and loaded as any.
pub(super) fn bert(path: &Path, settings: &Value) -> Result<Value> {
    let text = read_text(path)?;
    let mut vocab = Map::new();
    for (id, line) in text.lines().enumerate() {
        if vocab.insert(line.trim_end().to_owned(), id.into()).is_some() {
            let token = one_line(line);
            return Err(Error::file(path, format!("line {}: `{token}` is there twice", id + 1)));
        }
    }
    let name = |field: &str, default: &str| {
        let value = settings.get(field).map(|v| v.get("content").unwrap_or(v));
        value.and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let special = [
        name("unk_token", "[UNK]"),
        name("cls_token", "[CLS]"),
        name("sep_token", "[SEP]"),
        name("pad_token", "[PAD]"),
        name("mask_token", "[MASK]"),
    ];
    let mut seen = HashSet::new();
    let mut added = Vec::new();
    for token in &special {
        match vocab.get(token) {
            Some(id) if seen.insert(token) => added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })),
            Some(_) => {}
            None => {
                return Err(Error::file(path, format!("lacks the token `{}`", one_line(token))));
            }
        }
    }
    let [unk, cls, sep, ..] = &special;
    let lower = settings.get("do_lower_case").and_then(Value::as_bool).unwrap_or(true);
    let chinese = settings.get("tokenize_chinese_chars").and_then(Value::as_bool).unwrap_or(true);
    let accents = settings.get("strip_accents").and_then(Value::as_bool);
    let piece = |token: &str, kind: u32| json!({"SpecialToken": {"id": token, "type_id": kind}});
    let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let entry = |token: &str| json!({"id": token, "ids": [vocab[token]], "tokens": [token]});
    let (cls_entry, sep_entry) = (entry(cls), entry(sep));
    let single = [piece(cls, 0), text("A", 0), piece(sep, 0)];
    let pair = [piece(cls, 0), text("A", 0), piece(sep, 0), text("B", 1), piece(sep, 1)];
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": chinese,
            "strip_accents": accents, "lowercase": lower,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": {cls: cls_entry, sep: sep_entry},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    }))
}
