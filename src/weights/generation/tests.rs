#![cfg(test)]

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Decoding, EarlyStopping, GenerationConfig};
use crate::weights::Config;

const VOCAB: usize = 100;

fn model(json: &str) -> Config {
    Config::parse("config.json", json).unwrap()
}

fn inline(json: &str) -> crate::Result<GenerationConfig> {
    GenerationConfig::from_argument(json, &model(r#"{"eos_token_id": 2}"#), VOCAB)
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

#[test]
fn every_field_is_read() {
    let config = inline(
        r#" {"max_new_tokens": 7, "max_length": 9, "min_new_tokens": 1, "min_length": 3,
        "do_sample": true, "temperature": 0.5, "top_k": 4, "top_p": 0.9, "min_p": 0.05,
        "repetition_penalty": 1.25, "no_repeat_ngram_size": 3, "num_beams": 5,
        "length_penalty": 2, "early_stopping": "never", "eos_token_id": [1, 2],
        "pad_token_id": 3, "bos_token_id": 4, "decoder_start_token_id": 5,
        "forced_bos_token_id": 6, "forced_eos_token_id": [7, 8], "bad_words_ids": [[9], [10, 11]],
        "suppress_tokens": [12], "begin_suppress_tokens": [13, 14], "stop_strings": "\n\n",
        "renormalize_logits": true, "remove_invalid_values": true}"#,
    )
    .unwrap();
    let expected = GenerationConfig {
        max_new_tokens: Some(7),
        max_length: Some(9),
        min_new_tokens: Some(1),
        min_length: 3,
        do_sample: true,
        temperature: 0.5,
        top_k: 4,
        top_p: 0.9,
        min_p: 0.05,
        repetition_penalty: 1.25,
        no_repeat_ngram_size: 3,
        num_beams: 5,
        length_penalty: 2.0,
        early_stopping: EarlyStopping::Never,
        eos_token_id: vec![1, 2],
        pad_token_id: Some(3),
        bos_token_id: Some(4),
        decoder_start_token_id: Some(5),
        forced_bos_token_id: Some(6),
        forced_eos_token_id: vec![7, 8],
        bad_words_ids: vec![vec![9], vec![10, 11]],
        suppress_tokens: vec![12],
        begin_suppress_tokens: vec![13, 14],
        stop_strings: vec!["\n\n".into()],
        renormalize_logits: true,
        remove_invalid_values: true,
        notices: vec![],
    };
    assert_eq!(config, expected);
}

#[test]
fn null_is_the_default_and_for_an_id_none() {
    let config = inline(
        r#"{"max_length": null, "temperature": null, "top_k": null, "early_stopping": null,
        "eos_token_id": null, "bad_words_ids": null, "stop_strings": null, "min_p": null,
        "forced_eos_token_id": null, "typical_p": null, "guidance_scale": null}"#,
    )
    .unwrap();
    assert_eq!(config, GenerationConfig::default());
}

#[test]
fn ids_left_out_come_from_the_model() {
    let parent = model(
        r#"{"eos_token_id": [5, 6], "pad_token_id": null, "forced_bos_token_id": 8, "num_beams": 3,
        "decoder": {"pad_token_id": 0, "eos_token_id": 9, "decoder_start_token_id": 7}}"#,
    );
    let config = GenerationConfig::from_argument(r#"{"bos_token_id": 1}"#, &parent, VOCAB).unwrap();
    assert_eq!((&*config.eos_token_id, config.bos_token_id), (&[5, 6][..], Some(1)));
    assert_eq!((config.pad_token_id, config.decoder_start_token_id), (Some(0), Some(7)));
    // What changes the text more than where it ends is the generation config's alone.
    assert_eq!((config.forced_bos_token_id, config.num_beams), (None, 1));
    assert_eq!(config.notices, Vec::<String>::new());
}

#[test]
fn without_a_file_the_model_config_says_it_all() {
    let parent = model(
        r#"{"model_type": "bart", "hidden_size": 8, "eos_token_id": 2, "num_beams": 4,
        "max_length": 142, "no_repeat_ngram_size": 3, "forced_eos_token_id": 2, "top_k": 50,
        "early_stopping": true, "length_penalty": 2.0, "num_beam_groups": 1}"#,
    );
    let folder = Path::new("/a folder that is not there");
    let config = GenerationConfig::open(folder, &parent, VOCAB).unwrap();
    let expected = GenerationConfig {
        eos_token_id: vec![2],
        num_beams: 4,
        max_length: Some(142),
        no_repeat_ngram_size: 3,
        forced_eos_token_id: vec![2],
        decoder_start_token_id: Some(2),
        early_stopping: EarlyStopping::Yes,
        length_penalty: 2.0,
        ..GenerationConfig::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        (r#"{"max_new_tokens": -1}"#, "`max_new_tokens` is -1; expected a whole number from 1"),
        (r#"{"max_new_tokens": 0}"#, "`max_new_tokens` is 0; expected a whole number from 1"),
        (r#"{"max_new_tokens": 9223372036854775808}"#, "`max_new_tokens` is 92233720368547758"),
        (r#"{"max_length": 1.5}"#, "`max_length` is 1.5"),
        (r#"{"min_length": -3}"#, "`min_length` is -3"),
        (r#"{"temperature": -0.1}"#, "`temperature` is -0.1; expected a number from 0.0 to"),
        (r#"{"temperature": NaN}"#, "is not the JSON expected"),
        (r#"{"temperature": "NaN"}"#, "`temperature` is \"NaN\""),
        (r#"{"top_p": 1.01}"#, "`top_p` is 1.01; expected a number from 0.0 to 1.0"),
        (r#"{"top_p": -1}"#, "`top_p` is -1"),
        (r#"{"min_p": 2}"#, "`min_p` is 2"),
        (r#"{"top_k": -1}"#, "`top_k` is -1"),
        (r#"{"repetition_penalty": 0}"#, "`repetition_penalty` is 0"),
        (r#"{"num_beams": 0}"#, "`num_beams` is 0"),
        (r#"{"early_stopping": "often"}"#, "`early_stopping` is \"often\"; expected true, false"),
        (r#"{"eos_token_id": 100}"#, "`eos_token_id` is 100; expected token ids below the vocab"),
        (r#"{"eos_token_id": [1, "x"]}"#, "`eos_token_id` is \"x\""),
        (r#"{"pad_token_id": 100}"#, "`pad_token_id` is 100"),
        (r#"{"decoder_start_token_id": [1, 2]}"#, "expected one token id"),
        (r#"{"bad_words_ids": [3]}"#, "`bad_words_ids` is a list with 3; expected a list of lists"),
        (r#"{"bad_words_ids": [[]]}"#, "`bad_words_ids` is a list with a list of 0"),
        (r#"{"bad_words_ids": [[1, 100]]}"#, "`bad_words_ids` is 100"),
        (r#"{"suppress_tokens": [-1]}"#, "`suppress_tokens` is -1"),
        (r#"{"forced_eos_token_id": 4, "suppress_tokens": [3, 4]}"#, "`forced_eos_token_id` is 4"),
        (r#"{"stop_strings": ["a", ""]}"#, "`stop_strings` is an empty string"),
        (r#"{"num_beam_groups": 2}"#, "`num_beam_groups` is 2; expected 1, because this feature"),
        (r#"{"penalty_alpha": 0.6}"#, "`penalty_alpha` is 0.6; expected 0, because"),
        (r#"{"guidance_scale": 1.5}"#, "`guidance_scale` is 1.5"),
        (r#"{"typical_p": 0.9}"#, "`typical_p` is 0.9"),
        (r#"{"encoder_no_repeat_ngram_size": 3}"#, "`encoder_no_repeat_ngram_size` is 3"),
        (r#"{"num_return_sequences": 2}"#, "`num_return_sequences` is 2"),
        (r#"{"constraints": [{}]}"#, "`constraints` is a list of 1; expected nothing"),
        (r#"{"prompt_lookup_num_tokens": 3}"#, "`prompt_lookup_num_tokens` is 3"),
        (r#"{"token_healing": true}"#, "`token_healing` is true; expected false"),
        (r#"{"exponential_decay_length_penalty": [5, 1.1]}"#, "`exponential_decay_length_penalty`"),
        (r#"{"sequence_bias": [[[1], 2.0]]}"#, "`sequence_bias` is a list of 1"),
        (r#"{"cache_implementation": "quantized"}"#, "`cache_implementation` is `quantized`"),
        (r#"{"max_time": 1.0}"#, "`max_time` is 1.0"),
        ("{", "generation config: is not the JSON expected"),
        ("/no/such/file.json", "/no/such/file.json: "),
    ];
    for (json, expected) in cases {
        let error = inline(json).expect_err(json).to_string();
        assert!(error.contains(expected), "{json}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    // The file that an id was taken from is the one named.
    let error = GenerationConfig::from_argument("{}", &model(r#"{"eos_token_id": 500}"#), VOCAB);
    assert!(error.unwrap_err().to_string().starts_with("config.json: `eos_token_id` is 500"));
}

#[test]
fn values_that_leave_features_off_are_accepted() {
    let config = inline(
        r#"{"typical_p": 1.0, "num_beam_groups": 1, "guidance_scale": 1, "penalty_alpha": 0.0,
        "encoder_no_repeat_ngram_size": 0, "num_return_sequences": 1, "constraints": [],
        "cache_implementation": "hybrid", "diversity_penalty": 0, "token_healing": false,
        "transformers_version": "5.23.0", "use_cache": true, "_from_model_config": true,
        "output_scores": false, "return_dict_in_generate": false, "num_assistant_tokens": 20}"#,
    )
    .unwrap();
    assert_eq!(config.notices, Vec::<String>::new());
}

#[test]
fn notices() {
    let notices = |json: &str| inline(json).unwrap().notices;
    let unknown = notices(r#"{"chat_format": "raw", "top_k": 1, "a\nb": 2}"#);
    assert_eq!(unknown, [r"generation config: unknown keys are ignored: `chat_format`, `a\u{a}b`"]);
    let many: Vec<_> = (0..11).map(|i| format!("\"k{i}\": 0")).collect();
    assert!(notices(&format!("{{{}}}", many.join(",")))[0].ends_with("`k7` and 3 more"));
    assert!(notices(r#"{"pad_token_id": -1}"#)[0].contains("`pad_token_id` is -1: no pad"));
    let lengths = notices(r#"{"min_new_tokens": 9, "max_new_tokens": 4}"#);
    assert!(lengths[0].contains("`min_new_tokens` is 9"), "{lengths:?}");
}

#[test]
fn lengths() {
    let config = |json| inline(json).unwrap();
    assert_eq!(config("{}").max_length_after(5).unwrap(), 25);
    assert_eq!(config(r#"{"max_length": 9}"#).max_length_after(8).unwrap(), 9);
    assert_eq!(
        config(r#"{"max_length": 9, "max_new_tokens": 3}"#).max_length_after(9).unwrap(),
        12
    );
    let error = config(r#"{"max_length": 9}"#).max_length_after(9).unwrap_err().to_string();
    assert!(error.starts_with("the prompt has 9 tokens and `max_length` is 9"), "{error}");
    assert_eq!(config(r#"{"min_length": 4}"#).min_length_after(9), 4);
    assert_eq!(config(r#"{"min_length": 4, "min_new_tokens": 2}"#).min_length_after(9), 11);
    assert_eq!(config("{}").max_length_after(usize::MAX).unwrap(), usize::MAX);
}

#[test]
fn the_way_of_decoding_follows_and_numbers_set_by_hand_are_checked() {
    let decoding = |json| inline(json).unwrap().decoding();
    assert_eq!(decoding("{}").unwrap(), Decoding::Greedy);
    assert_eq!(decoding(r#"{"do_sample": true}"#).unwrap(), Decoding::Sample);
    assert_eq!(decoding(r#"{"do_sample": true, "temperature": 0}"#).unwrap(), Decoding::Greedy);
    assert_eq!(decoding(r#"{"num_beams": 2}"#).unwrap(), Decoding::Beam);
    let error = decoding(r#"{"num_beams": 2, "do_sample": true}"#).unwrap_err().to_string();
    assert!(error.contains("`do_sample` with `num_beams` 2"), "{error}");

    let by_hand = |change: fn(&mut GenerationConfig)| {
        let mut config = GenerationConfig::default();
        change(&mut config);
        config.decoding().unwrap_err().to_string()
    };
    assert!(by_hand(|c| c.temperature = f32::NAN).starts_with("`temperature` is NaN; expected"));
    assert!(by_hand(|c| c.temperature = f32::INFINITY).starts_with("`temperature` is inf"));
    assert!(by_hand(|c| c.top_p = -0.5).starts_with("`top_p` is -0.5"));
    assert!(by_hand(|c| c.repetition_penalty = 0.0).starts_with("`repetition_penalty` is 0.0"));
    assert!(by_hand(|c| c.num_beams = 0).starts_with("`num_beams` is 0"));
    assert!(by_hand(|c| c.max_new_tokens = Some(0)).starts_with("`max_new_tokens` is 0"));
    assert!(by_hand(|c| c.max_new_tokens = Some(1 << 40)).starts_with("`max_new_tokens` is 1099"));
}

#[test]
fn special_ids() {
    let config = |json| GenerationConfig::from_argument(json, &model("{}"), VOCAB).unwrap();
    assert_eq!(config(r#"{"bos_token_id": 4}"#).decoder_start().unwrap(), 4);
    let both = r#"{"bos_token_id": 4, "decoder_start_token_id": 0}"#;
    assert_eq!(config(both).decoder_start().unwrap(), 0);
    let error = config("{}").decoder_start().unwrap_err().to_string();
    assert!(error.contains("neither `decoder_start_token_id` nor `bos_token_id`"), "{error}");
    assert_eq!(config(r#"{"eos_token_id": [7, 8]}"#).pad(), 7);
    assert_eq!(config(r#"{"eos_token_id": [7, 8], "pad_token_id": 1}"#).pad(), 1);
    assert_eq!(config("{}").pad(), 0);
}

/// Every folder's own file, and the settings of every golden generation, without a notice.
#[test]
fn the_goldens_are_read() {
    let mut files = 0;
    let mut settings = 0;
    for entry in std::fs::read_dir(goldens()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("golden.json").exists() {
            continue;
        }
        let parent = Config::open(&folder).unwrap();
        let sizes = ["/vocab_size", "/decoder/vocab_size"];
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let vocab = sizes.iter().find_map(|at| json.pointer(at)?.as_u64()).unwrap() as usize;
        let own = folder.join("generation_config.json");
        if own.exists() {
            let config = GenerationConfig::open(&folder, &parent, vocab).unwrap();
            assert_eq!(config.notices, Vec::<String>::new(), "{}", folder.display());
            let file: Value =
                serde_json::from_str(&std::fs::read_to_string(&own).unwrap()).unwrap();
            let stated = file["eos_token_id"].as_array().map_or(1, Vec::len);
            assert_eq!(config.eos_token_id.len(), stated, "{}", folder.display());
            files += 1;
        }
        let golden = std::fs::read_to_string(folder.join("golden.json")).unwrap();
        let golden: Value = serde_json::from_str(&golden).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let Some(params) = case.get("params") else { continue };
            let config =
                GenerationConfig::from_argument(&params.to_string(), &parent, vocab).unwrap();
            assert_eq!(config.decoding().unwrap(), Decoding::Greedy);
            assert_eq!(config.max_new_tokens.map(|n| n as u64), params["max_new_tokens"].as_u64());
            assert_eq!(config.notices, Vec::<String>::new());
            settings += 1;
        }
    }
    assert!(files >= 15 && settings >= 50, "{files} files, {settings} settings");
}

/// transformers' classes have special ids of their own, which a file need not repeat.
#[test]
fn ids_that_a_file_leaves_out_are_the_model_class_s() {
    let folder = Path::new("/a folder that is not there");
    let of = |json: &str| GenerationConfig::open(folder, &model(json), VOCAB).unwrap();
    assert_eq!(of(r#"{"model_type": "llama"}"#).eos_token_id, [2]);
    assert_eq!(of(r#"{"model_type": "llama", "eos_token_id": 7}"#).eos_token_id, [7]);
    assert!(of(r#"{"model_type": "llama", "eos_token_id": null}"#).eos_token_id.is_empty());
    // The class's id is beyond this vocabulary.
    assert!(of(r#"{"model_type": "gpt2"}"#).eos_token_id.is_empty());
    let bart = of(r#"{"model_type": "bart"}"#);
    assert_eq!((bart.decoder_start_token_id, bart.forced_eos_token_id), (Some(2), vec![2]));
    assert!(of(r#"{"model_type": "qwen3"}"#).eos_token_id.is_empty());
}
