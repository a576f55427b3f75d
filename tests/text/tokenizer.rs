//! Token ids, tokens, offsets, decoded text and truncation equal those of Hugging Face's
//! `tokenizers`, for every model folder under `tests/goldens`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tilewright::text::{Batch, Encoding, Tokenizer};

fn goldens() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut folders: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("tokenizer_golden.json").is_file())
        .collect();
    folders.sort();
    folders
}

fn golden(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("tokenizer_golden.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect()
}

fn encode(tokenizer: &Tokenizer, case: &Value) -> Encoding {
    let text = case["text"].as_str().unwrap();
    let special = case.get("add_special_tokens").is_none_or(|v| v.as_bool().unwrap());
    match case.get("pair") {
        Some(pair) => tokenizer.encode_pair(text, pair.as_str().unwrap(), special).unwrap(),
        None => tokenizer.encode(text, special).unwrap(),
    }
}

#[test]
fn every_golden_case_is_equal() {
    let folders = goldens();
    assert!(folders.len() >= 25, "{} folders with tokenizer goldens", folders.len());
    for folder in folders {
        let tokenizer = Tokenizer::open(&folder).unwrap();
        for case in golden(&folder)["cases"].as_array().unwrap() {
            let label = format!("{}: {}", folder.display(), case["text"]);
            let got = encode(&tokenizer, case);
            assert_eq!(got.ids, numbers(&case["ids"]), "ids, {label}");
            if let Some(tokens) = case.get("tokens") {
                let want: Vec<_> =
                    tokens.as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
                assert_eq!(got.tokens, want, "tokens, {label}");
            }
            let offsets: Vec<_> =
                got.offsets.iter().flat_map(|(a, b)| [*a as u32, *b as u32]).collect();
            assert_eq!(offsets, numbers(&case["offsets"]), "offsets, {label}");
            let types = case.get("type_ids").map_or(vec![0; got.len()], numbers);
            assert_eq!(got.type_ids, types, "type ids, {label}");

            let skipped = case["decoded_skip_special"].as_str().unwrap();
            let whole = case.get("decoded").map_or(skipped, |v| v.as_str().unwrap());
            assert_eq!(tokenizer.decode(&got.ids, true).unwrap(), skipped, "decoded, {label}");
            assert_eq!(tokenizer.decode(&got.ids, false).unwrap(), whole, "decoded, {label}");
        }
    }
}

#[test]
fn truncation_keeps_special_tokens() {
    for folder in goldens() {
        let tokenizer = Tokenizer::open(&folder).unwrap();
        for case in golden(&folder)["truncation"].as_array().unwrap() {
            if case["strategy"] != "longest_first" || case["direction"] != "right" {
                continue;
            }
            let mut got = encode(&tokenizer, case);
            let full = got.len();
            let max_len = case["max_length"].as_u64().unwrap() as usize;
            let dropped = got.truncate(max_len).unwrap();
            let label = format!("{}: {case}", folder.display());
            assert_eq!(got.ids, numbers(&case["ids"]), "{label}");
            assert_eq!(dropped, full - got.len(), "{label}");
            assert_eq!(got.tokens.len(), got.len());
            assert_eq!(got.offsets.len(), got.len());
        }
    }
}

#[test]
fn batches_are_padded_on_the_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/roberta_mlm");
    let tokenizer = Tokenizer::open(folder).unwrap();
    assert_eq!(tokenizer.pad_id(), 1);
    let texts = ["Hello, world!", "", "The engine isn't slow, it's just careful."];
    let batch = tokenizer.encode_batch(&texts, true, Some(8)).unwrap();
    let ids = batch.input_ids.as_u32().unwrap();
    assert_eq!(batch.input_ids.shape().dims(), [3, 8]);
    assert_eq!(batch.lengths, [8, 2, 8]);
    assert_eq!(batch.truncated[1], 0);
    assert!(batch.truncated[2] > 0);
    assert_eq!(ids[8..16], [0, 2, 1, 1, 1, 1, 1, 1]);
    assert_eq!((ids[16], ids[23]), (0, 2));
    assert_eq!(batch.attention_mask.as_u32().unwrap()[8..16], [1, 1, 0, 0, 0, 0, 0, 0]);

    let none: [&str; 0] = [];
    assert_eq!(tokenizer.encode_batch(&none, true, None).unwrap().input_ids.shape().dims(), [0, 0]);
    let error = tokenizer.encode_batch(&texts, true, Some(1)).unwrap_err().to_string();
    assert!(error.contains("2 special tokens"), "{error}");
    assert!(Batch::new(vec![Encoding::default()], Some(0), 0).is_ok());
}

#[test]
fn vocab_txt_alone_gives_the_same_ids() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/bert_cls");
    let alone = std::env::temp_dir().join(format!("tilewright-vocab-{}", std::process::id()));
    std::fs::create_dir_all(&alone).unwrap();
    for file in ["vocab.txt", "tokenizer_config.json"] {
        std::fs::copy(folder.join(file), alone.join(file)).unwrap();
    }
    let tokenizer = Tokenizer::open(&alone).unwrap();
    std::fs::remove_dir_all(&alone).unwrap();
    for case in golden(&folder)["cases"].as_array().unwrap() {
        let got = encode(&tokenizer, case);
        assert_eq!(got.ids, numbers(&case["ids"]), "{}", case["text"]);
        let types = case.get("type_ids").map_or(vec![0; got.len()], numbers);
        assert_eq!(got.type_ids, types, "{}", case["text"]);
    }
}

#[test]
fn decode_leaves_unknown_ids_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/gpt2");
    let tokenizer = Tokenizer::open(folder).unwrap();
    assert_eq!(tokenizer.decode(&[u32::MAX, 1 << 20], true).unwrap(), "");
    assert_eq!(tokenizer.max_id(), 351);
    assert!(tokenizer.check_vocab(352).is_ok());
    let error = tokenizer.check_vocab(351).unwrap_err().to_string();
    assert!(error.contains("`<|endoftext|>` has the id 351"), "{error}");
}
