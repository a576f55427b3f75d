//! Configurations that must each get one clear line.

use serde_json::json;
use tilewright::Error;
use tilewright::weights::{Activation, Config, Pooling, SentenceConfig};

use crate::bad_inputs::expect_error;
use crate::folder::Folder;

#[test]
fn config_fields() {
    type Getter = fn(&Config) -> Result<(), Error>;
    let cases: Vec<(&str, &str, Getter, &str)> = vec![
        (
            "43 hidden and heads",
            "{}",
            |c| c.check_divides("hidden_size", 64, "heads", 3),
            "`hidden_size` is 64; expected a multiple of `heads`, which is 3",
        ),
        ("44 no heads", "{}", |c| c.check_divides("heads", 4, "kv_heads", 0), "which is 0"),
        ("45 layers 0", r#"{"n":0}"#, |c| c.usize_field("n", 1..=1000).map(drop), "`n` is 0"),
        ("45 layers -1", r#"{"n":-1}"#, |c| c.usize_field("n", 1..=1000).map(drop), "`n` is -1"),
        (
            "45 layers 2^31",
            r#"{"n":2147483648}"#,
            |c| c.usize_field("n", 1..=1000).map(drop),
            "`n` is 2147483648; expected a whole number from 1 to 1000",
        ),
        (
            "52 2^63 positions",
            r#"{"n":9223372036854775808}"#,
            |c| c.usize_field("n", 1..=1 << 24).map(drop),
            "9223372036854775808",
        ),
        ("1e30", r#"{"n":1e30}"#, |c| c.usize_field("n", 1..=9).map(drop), "`n` is 1e+30"),
        ("a fraction", r#"{"n":1.5}"#, |c| c.usize_field("n", 1..=9).map(drop), "`n` is 1.5"),
        ("a string", r#"{"n":"12"}"#, |c| c.usize_field("n", 1..=19).map(drop), "`n` is \"12\""),
        ("missing", "{}", |c| c.usize_field("n", 1..=9).map(drop), "`n` is missing"),
        ("null", r#"{"n":null}"#, |c| c.usize_field("n", 1..=9).map(drop), "`n` is missing"),
        ("47 eps 0", r#"{"eps":0}"#, |c| c.eps("eps", 1e-5).map(drop), "`eps` is 0"),
        ("47 eps negative", r#"{"eps":-1.0}"#, |c| c.eps("eps", 1e-5).map(drop), "`eps` is -1.0"),
        ("47 eps a string", r#"{"eps":"NaN"}"#, |c| c.eps("eps", 1e-5).map(drop), "NaN"),
        ("47 theta 0", r#"{"t":0.0}"#, |c| c.f32_field("t", 1.0..=1e12).map(drop), "`t` is 0.0"),
        ("47 theta 1e300", r#"{"t":1e300}"#, |c| c.f32_field("t", 1.0..=1e12).map(drop), "1e+300"),
        (
            "53 eos out of range",
            r#"{"eos":[1,500]}"#,
            |c| c.token_ids("eos", 500).map(drop),
            "`eos` is 500; expected token ids below the vocabulary's 500",
        ),
        ("53 eos negative", r#"{"eos":-1}"#, |c| c.token_ids("eos", 9).map(drop), "`eos` is -1"),
        ("53 eos a string", r#"{"eos":"x"}"#, |c| c.token_ids("eos", 9).map(drop), "`eos` is"),
        ("two pads", r#"{"pad":[1,2]}"#, |c| c.token_id("pad", 9).map(drop), "one token id"),
        (
            "unknown activation",
            r#"{"act":"magic"}"#,
            |c| c.activation_or("act", Activation::Relu).map(drop),
            "expected one of gelu, ",
        ),
        ("bool", r#"{"b":1}"#, |c| c.bool_or("b", true).map(drop), "expected true or false"),
        ("strings", r#"{"s":[1]}"#, |c| c.strings("s").map(drop), "`s` is a list of 1"),
        ("no type", "{}", |c| c.model_type().map(drop), "`model_type` is missing"),
        (
            "section",
            r#"{"encoder":{"n":0}}"#,
            |c| c.section("encoder")?.unwrap().usize_field("n", 1..=2).map(drop),
            "`encoder.n` is 0",
        ),
        ("section a number", r#"{"encoder":5}"#, |c| c.section("encoder").map(drop), "an object"),
    ];
    for (name, text, getter, want) in cases {
        let config = Config::parse("config.json", text).unwrap();
        expect_error(name, want, || getter(&config));
        expect_error(name, "config.json: ", || getter(&config));
    }
    let config = Config::parse(
        "config.json",
        r#"{"n":12.0,"eos":null,"list":[1,2],"act":"swish","auto_map":{"AutoModel":"x.Y"}}"#,
    )
    .unwrap();
    assert_eq!(config.usize_field("n", 1..=12).unwrap(), 12);
    assert!(config.token_ids("eos", 5).unwrap().is_empty());
    assert_eq!(config.token_ids("list", 5).unwrap(), [1, 2]);
    assert_eq!(config.activation_or("act", Activation::Relu).unwrap(), Activation::Silu);
    assert!(config.notices()[0].contains("`auto_map`"), "{:?}", config.notices());
}

#[test]
fn config_files() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    for (name, bytes, want) in [
        ("empty", "", "is empty"),
        ("not json", "{", "JSON"),
        ("nan", r#"{"eps":NaN}"#, "JSON"),
        ("a list", "[1]", "an object is expected"),
        ("deep", deep.as_str(), "recursion limit"),
        ("54 quantised", r#"{"quantization_config":{"quant_method":"gptq"}}"#, "\"gptq\""),
    ] {
        let folder = Folder::new();
        folder.file("config.json", bytes);
        expect_error(name, want, || Config::open(&folder.0));
    }
    let folder = Folder::new();
    expect_error("missing", "config.json", || Config::open(&folder.0));
}

#[test]
fn sentence_transformers_files() {
    let modules = |kinds: &[(&str, &str)]| {
        let list = kinds.iter().map(|(kind, path)| {
            json!({"type": format!("sentence_transformers.models.{kind}"), "path": path})
        });
        json!(list.collect::<Vec<_>>()).to_string()
    };
    let full = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")];
    let mean = r#"{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":false}"#;
    let cases: Vec<(&str, String, &str, &str)> = vec![
        ("not a list", "{}".into(), mean, "a list is expected"),
        ("no type", "[{}]".into(), mean, "`type`"),
        ("dense", modules(&[full[0], full[1], ("Dense", "2_Dense")]), mean, "models.Dense"),
        ("leaves", modules(&[full[0], ("Pooling", "../x")]), mean, "leaves the model folder"),
        ("absolute", modules(&[full[0], ("Pooling", "/x")]), mean, "leaves the model folder"),
        ("backslash", modules(&[full[0], ("Pooling", "..\\x")]), mean, "leaves the model folder"),
        ("no pooling", modules(&full[..1]), mean, "lacks"),
        ("max", modules(&full), r#"{"pooling_mode_max_tokens":true}"#, "`max`; expected mean"),
        (
            "sum",
            modules(&[("MLMTransformer", ""), ("SpladePooling", "1_Pooling")]),
            r#"{"pooling_strategy":"sum"}"#,
            "`pooling_strategy` is `sum`; expected max",
        ),
        ("none", modules(&full), "{}", "`pooling_mode` is missing"),
        (
            "both",
            modules(&full),
            r#"{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":true}"#,
            "cls + mean",
        ),
    ];
    for (name, list, pooling, want) in cases {
        let folder = Folder::new();
        folder.file("modules.json", list);
        folder.file("1_Pooling/config.json", pooling);
        expect_error(name, want, || SentenceConfig::open(&folder.0));
    }
    let folder = Folder::new();
    assert_eq!(SentenceConfig::open(&folder.0).unwrap(), None);
    folder.file("modules.json", modules(&full));
    folder.file("1_Pooling/config.json", mean);
    folder.file("sentence_bert_config.json", r#"{"max_seq_length":256,"do_lower_case":false}"#);
    let config = SentenceConfig::open(&folder.0).unwrap().unwrap();
    assert_eq!(
        (config.pooling, config.normalize, config.max_seq_length),
        (Pooling::Mean, true, Some(256))
    );
    folder.file("1_Pooling/config.json", r#"{"pooling_mode":"cls"}"#);
    assert_eq!(SentenceConfig::open(&folder.0).unwrap().unwrap().pooling, Pooling::Cls);
}
