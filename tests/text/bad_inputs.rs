//! Tokenizer files and texts that must each get one clear line: no panic, no hang.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tilewright::text::{MAX_TEXT_BYTES, Tokenizer};

use crate::expect::expect_error;
use crate::folder::Folder;

/// A sound little BPE tokeniser, to be spoilt.
fn sound() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [added(4, "<s>")],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {
            "type": "BPE", "unk_token": "<unk>",
            "vocab": {"<unk>": 0, "a": 1, "b": 2, "ab": 3},
            "merges": ["a b"],
        },
    })
}

fn added(id: u32, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true})
}

fn spoil(pointer: &str, value: Value) -> Vec<u8> {
    let mut file = sound();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    file.pointer_mut(parent).unwrap()[key] = value;
    file.to_string().into_bytes()
}

fn split(regex: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

fn template(single: Value, special: Value) -> Value {
    json!({"type": "TemplateProcessing", "single": single,
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": special})
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(
        json!({"type": "NFC"}),
        |inner, _| json!({"type": "Sequence", "normalizers": [inner]}),
    )
}

/// base64 of a charsmap whose only trie unit leads far outside it.
fn wild_charsmap() -> Value {
    json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAAD8//8="})
}

fn replace(text: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": text}, "content": content})
}

#[test]
fn tokenizer_json() {
    let a = json!({"Sequence": {"id": "A", "type_id": 0}});
    let cls = json!({"SpecialToken": {"id": "[CLS]", "type_id": 0}});
    let entry = json!({"[CLS]": {"id": "[CLS]", "ids": [4], "tokens": ["[CLS]"]}});
    let one = template(json!([cls, a]), entry.clone());
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "is empty"),
        ("not utf-8", vec![b'{', 0xff], "not UTF-8"),
        ("byte-order mark", b"\xef\xbb\xbf{}".to_vec(), "byte-order mark"),
        ("not json", b"tokens".to_vec(), "JSON"),
        ("array", b"[]".to_vec(), "an object is expected"),
        ("no model", b"{}".to_vec(), "`model` is missing"),
        ("deep json", deep.into_bytes(), "recursion limit"),
        ("lone surrogate", br#"{"model":{"vocab":{"\ud800":0}}}"#.to_vec(), "hex escape"),
        ("no vocab", spoil("/model/vocab", Value::Null), "`model.vocab` is null"),
        ("vocab is a number", spoil("/model/vocab", json!(5)), "`model.vocab` is 5"),
        ("merge longer than any key", spoil("/model/merges", json!(["ab ab"])), "`abab`"),
        ("merge of unknown tokens", spoil("/model/merges", json!(["a z"])), "token `z`"),
        ("merge of one token", spoil("/model/merges", json!(["ab"])), "two tokens"),
        ("merge of three", spoil("/model/merges", json!([["a", "b", "a"]])), "two tokens"),
        ("merge is a number", spoil("/model/merges", json!([7])), "merge 0 is 7"),
        (
            "prefix that the merge lacks",
            spoil("/model/continuing_subword_prefix", json!("##")),
            "lacks the prefix",
        ),
        ("two tokens of one id", spoil("/model/vocab/b", json!(1)), "`a` and `b`"),
        ("negative id", spoil("/model/vocab/b", json!(-1)), "`b` is -1"),
        ("fractional id", spoil("/model/vocab/b", json!(1.5)), "`b` is 1.5"),
        ("id of 2^32 - 1", spoil("/model/vocab/b", json!(u32::MAX)), "`b` is 4294967295"),
        ("id of 2^63", spoil("/model/vocab/b", json!(1u64 << 63)), "`b` is 9223372036854775808"),
        ("dropout", spoil("/model/dropout", json!(0.5)), "at random"),
        ("long words", spoil("/model/max_input_chars_per_word", json!(1u64 << 40)), "at most 1000"),
        ("empty added token", spoil("/added_tokens", json!([added(4, "")])), "token 4 is empty"),
        ("added token after a gap", spoil("/added_tokens", json!([added(9, "<s>")])), "the id 9"),
        ("added token on a used id", spoil("/added_tokens", json!([added(1, "<s>")])), "the id 1"),
        ("added token, huge id", spoil("/added_tokens", json!([added(u32::MAX, "x")])), "below"),
        ("added tokens are an object", spoil("/added_tokens", json!({})), "a list is expected"),
        ("added token without content", spoil("/added_tokens", json!([{"id": 1}])), "`content`"),
        ("pattern that backtracks", spoil("/pre_tokenizer", split("(a+)+(?=b)")), "for ever"),
        (
            "pattern in a sequence",
            spoil(
                "/pre_tokenizer",
                json!({"type": "Sequence", "pretokenizers": [split(r"(x|y)*\1")]}),
            ),
            "for ever",
        ),
        ("pattern that is no pattern", spoil("/pre_tokenizer", split("(")), "tokenizer.json: "),
        (
            "pieces of length 0",
            spoil("/pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
            "at least 1",
        ),
        ("deep sequence", spoil("/normalizer", nested(40)), "nests more than 16"),
        ("empty text replaced", spoil("/normalizer", replace("", "x")), "matches an empty text"),
        (
            "empty matches replaced",
            spoil(
                "/normalizer",
                json!({"type": "Replace", "pattern": {"Regex": " *"}, "content": "x"}),
            ),
            "matches an empty text",
        ),
        (
            "texts that explode",
            spoil(
                "/normalizer",
                json!({"type": "Sequence", "normalizers": vec![replace("a", "aaaaaaaa"); 4]}),
            ),
            "4096 times as long",
        ),
        (
            "answers that explode",
            spoil(
                "/decoder",
                json!({"type": "Sequence", "decoders": vec![replace("e", "eeeeeeee"); 3]}),
            ),
            "`decoder` may make a text 512 times as long",
        ),
        (
            "a long text before each",
            spoil("/normalizer", json!({"type": "Prepend", "prepend": "x".repeat(999)})),
            "`normalizer` may make a text 1000 times as long",
        ),
        (
            "a long suffix of each word",
            spoil("/model/end_of_word_suffix", json!("x".repeat(65))),
            "`end_of_word_suffix` has 65 bytes",
        ),
        (
            "charsmap not base64",
            {
                let value = json!({"type": "Precompiled", "precompiled_charsmap": "%%%%"});
                spoil("/normalizer", value)
            },
            "base64",
        ),
        (
            "charsmap of a huge trie",
            {
                let value = json!({"type": "Precompiled", "precompiled_charsmap": "/P///wAA"});
                spoil("/normalizer", value)
            },
            "trie of 4294967292 bytes",
        ),
        ("charsmap that leads outside", spoil("/normalizer", wild_charsmap()), "leads to trie"),
        ("charsmap missing", spoil("/normalizer", json!({"type": "Precompiled"})), "is missing"),
        (
            "decoder strips ends",
            spoil("/decoder", json!({"type": "Strip", "content": " ", "start": 0, "stop": 3})),
            "`stop`",
        ),
        ("decoder unknown", spoil("/decoder", json!({"type": "Magic"})), "tokenizer.json: "),
        (
            "template of an undefined token",
            spoil("/post_processor", template(json!([cls, a]), json!({}))),
            "do not define",
        ),
        (
            "template of unequal lists",
            spoil(
                "/post_processor",
                template(
                    json!([cls, a]),
                    json!({"[CLS]": {"id": "", "ids": [1, 2], "tokens": []}}),
                ),
            ),
            "2 ids and 0 tokens",
        ),
        (
            "single template of sequence B",
            spoil(
                "/post_processor",
                template(json!([{"Sequence": {"id": "B", "type_id": 0}}]), entry),
            ),
            "sequence `B`",
        ),
        (
            "two templates",
            spoil("/post_processor", json!({"type": "Sequence", "processors": [one, one]})),
            "twice",
        ),
        ("version", spoil("/version", json!("9")), "version"),
        ("model unknown", spoil("/model/type", json!("Oracle")), "tokenizer.json: "),
    ];
    for (name, bytes, want) in cases {
        let folder = Folder::new();
        folder.file("tokenizer.json", bytes);
        expect_error(name, want, || Tokenizer::open(&folder.0));
    }
}

#[test]
fn folders_without_a_tokenizer() {
    let folder = Folder::new();
    let want = "neither tokenizer.json nor vocab.txt";
    expect_error("nothing", want, || Tokenizer::open(&folder.0));
    std::fs::create_dir(folder.0.join("tokenizer.json")).unwrap();
    expect_error("a folder", "is a folder", || Tokenizer::open(&folder.0));
}

#[test]
fn vocab_txt() {
    for (name, text, want) in [
        ("a token twice", "[PAD]\na\na\n", "line 3"),
        ("no unknown token", "a\nb\n", "lacks the token `[UNK]`"),
    ] {
        let folder = Folder::new();
        folder.file("vocab.txt", text);
        expect_error(name, want, || Tokenizer::open(&folder.0));
    }
}

#[test]
fn tokenizer_config() {
    let folder = Folder::new();
    folder.file("tokenizer.json", sound().to_string());
    for (name, text, want) in [("not json", "{", "JSON"), ("a list", "[]", "an object")] {
        folder.file("tokenizer_config.json", text);
        expect_error(name, want, || Tokenizer::open(&folder.0));
    }
}

#[test]
fn replacements_that_do_not_feed_each_other_are_fine() {
    let rules = ["…", "½", "—", "™", "&", "%", "@", "+"].map(|sign| replace(sign, "(sign) "));
    let mut file = sound();
    file["normalizer"] = json!({"type": "Sequence", "normalizers": rules});
    let folder = Folder::new();
    folder.file("tokenizer.json", file.to_string());
    assert_eq!(Tokenizer::open(&folder.0).unwrap().encode("a&b", false).unwrap().ids.len(), 9);
}

#[test]
fn gaps_between_ids_are_fine() {
    let mut file = sound();
    file["model"]["vocab"] = json!({"<unk>": 0, "a": 10, "b": 20, "ab": 3000});
    let folder = Folder::new();
    folder.file("tokenizer.json", file.to_string());
    let tokenizer = Tokenizer::open(&folder.0).unwrap();
    assert_eq!(tokenizer.encode("abc", false).unwrap().ids, [3000, 0]);
    assert_eq!(tokenizer.max_id(), 3000);
}

#[test]
fn ten_megabytes_without_a_space() {
    let folder = Folder::new();
    folder.file("tokenizer.json", sound().to_string());
    let tokenizer = Tokenizer::open(&folder.0).unwrap();
    let text = "a".repeat(10_000_000);
    let want = "10000000 bytes; at most 1000000";
    expect_error("10 MB", want, AssertUnwindSafe(|| tokenizer.encode(&text, true)));
    // The longest text that is taken must end in reasonable time, whatever the model.
    for folder in ["bert_cls", "t5", "llama_gqa", "llama3_rope_tied"] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(folder);
        let tokenizer = Tokenizer::open(path).unwrap();
        for text in ["ab", "'", "\n"] {
            let started = Instant::now();
            let text = text.repeat(MAX_TEXT_BYTES / text.len());
            tokenizer.encode(&text, true).unwrap();
            let took = started.elapsed();
            assert!(took < Duration::from_secs(30), "{folder}: {took:?}");
        }
    }
}
