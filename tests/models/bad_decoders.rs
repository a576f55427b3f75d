//! Decoder configurations that must each get one clear line, on the goldens' checkpoints.

use std::path::Path;

use serde_json::{Value, json};
use tilewright::Error;
use tilewright::models::{self, BuildOptions, Model, Outputs};

use crate::bad_inputs::expect_error;
use crate::folder::Folder;

/// A golden's folder with fields of its configuration replaced.
fn changed(golden: &str, fields: &Value) -> Folder {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(golden);
    let text = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let fields = fields.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(fields);
    let folder = Folder::new();
    folder.file("config.json", config.to_string());
    for entry in std::fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
        let name = entry.file_name().unwrap().to_str().unwrap();
        if name.starts_with("model") {
            std::fs::copy(&entry, folder.0.join(name)).unwrap();
        }
    }
    folder
}

fn open(folder: &Folder) -> Result<Model, Error> {
    models::open(&folder.0, &BuildOptions::default())
}

#[test]
fn configurations() {
    let rope = |section: Value| json!({"rope_scaling": section});
    let cases: Vec<(&str, &str, Value, &str)> = vec![
        ("43", "gpt2", json!({"n_head": 5}), "`n_embd` is 48; expected a multiple of `n_head`"),
        ("43", "opt", json!({"num_attention_heads": 5}), "`hidden_size` is 48"),
        ("43", "gpt_neox", json!({"num_attention_heads": 5}), "`hidden_size` is 48"),
        ("43", "qwen2", json!({"num_attention_heads": 5}), "`hidden_size` is 48"),
        ("44", "llama_gqa", json!({"num_key_value_heads": 3}), "`num_key_value_heads`, which is 3"),
        ("44 none", "mistral", json!({"num_key_value_heads": 0}), "`num_key_value_heads` is 0"),
        ("44 no heads", "gpt2", json!({"n_head": 0}), "`n_head` is 0"),
        ("45", "llama_gqa", json!({"num_hidden_layers": 0}), "`num_hidden_layers` is 0"),
        ("45", "gpt2", json!({"n_layer": -1}), "`n_layer` is -1"),
        ("45", "qwen3", json!({"num_hidden_layers": 2_147_483_648u64}), "is 2147483648"),
        ("45 too many", "gemma2", json!({"num_hidden_layers": 3}), "layers.2."),
        ("46", "llama_gqa", json!({"vocab_size": 353}), "[352, 40], the config asks for [353, 40]"),
        ("46", "gpt2", json!({"vocab_size": 353}), "[352, 48], the config asks for [353, 48]"),
        ("47 eps", "llama_gqa", json!({"rms_norm_eps": 0}), "`rms_norm_eps` is 0"),
        ("47 eps", "gpt2", json!({"layer_norm_epsilon": 0.0}), "`layer_norm_epsilon` is 0.0"),
        ("47 theta", "qwen2", json!({"rope_theta": 0}), "`rope_theta` is 0"),
        ("47 theta", "qwen2", json!({"rope_theta": "NaN"}), "`rope_theta` is \"NaN\""),
        ("47 base", "gpt_neox", json!({"rotary_emb_base": 0}), "`rotary_emb_base` is 0"),
        ("48", "qwen2", rope(json!({"type": "yarn", "factor": 2.0})), "the rope type is yarn"),
        ("48", "mistral", rope(json!({"rope_type": "dynamic"})), "the rope type is dynamic"),
        ("48", "qwen2", rope(json!({"factor": 2.0})), "the rope type is missing"),
        ("48", "qwen2", rope(json!({"type": "linear"})), "`factor` must be a positive number"),
        ("48", "qwen2", rope(json!("linear")), "`rope_scaling` is \"linear\"; expected an object"),
        (
            "48 in the newer layout",
            "llama_gqa",
            json!({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}),
            "the rope type is longrope",
        ),
        (
            "48 factors",
            "llama3_rope_tied",
            rope(json!({
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
            })),
            "`low_freq_factor` 4 must be below `high_freq_factor` 4",
        ),
        ("49", "qwen2", json!({"tie_word_embeddings": false}), "tensor `lm_head.weight`: is not"),
        ("49", "gpt2", json!({"tie_word_embeddings": false}), "tensor `lm_head.weight`: is not"),
        ("52", "llama_gqa", json!({"max_position_embeddings": 1u64 << 63}), "9223372036854775808"),
        ("52", "gpt2", json!({"n_positions": 1u64 << 63}), "`n_positions` is 9223372036854775808"),
        ("53", "gpt2", json!({"eos_token_id": [1, 352]}), "`eos_token_id` is 352"),
        ("54", "llama_gqa", json!({"quantization_config": {"quant_method": "awq"}}), "\"awq\""),
        (
            "55",
            "opt",
            json!({"ffn_dim": 101}),
            "has shape [100, 48], the config asks for [101, 48]",
        ),
        ("55", "gpt2", json!({"n_inner": null}), "the config asks for [48, 192]"),
        ("55 bias", "llama_gqa", json!({"attention_bias": true}), "self_attn.q_proj.bias`: is not"),
        ("type", "gpt2", json!({"model_type": "gpt5"}), "known: "),
        ("activation", "opt", json!({"activation_function": "magic"}), "`magic`; expected one of"),
        ("class", "llama_gqa", json!({"architectures": ["LlamaForTokenClassification"]}), "*Model"),
        ("class", "gpt2", json!({"architectures": ["GPT2DoubleHeadsModel"]}), "`GPT2DoubleHeads"),
        ("cross", "gpt2", json!({"add_cross_attention": true}), "`add_cross_attention` is true"),
        ("share", "gpt_neox", json!({"rotary_pct": 0.22}), "`rotary_pct` is 0.22, 5 columns"),
        ("share", "gpt_neox", json!({"rotary_pct": 1.5}), "`rotary_pct` is 1.5"),
        ("share", "qwen2", json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor` is 0.5"),
        ("odd head", "llama_gqa", json!({"head_dim": 15}), "`head_dim` is 15; expected even"),
        ("window", "llama_gqa", json!({"sliding_window": 8}), "`sliding_window` is 8"),
        ("window", "mistral", json!({"sliding_window": 0}), "`sliding_window` is 0"),
        ("mlp bias", "qwen3", json!({"mlp_bias": true}), "`mlp_bias` is true"),
        (
            "kinds",
            "qwen3",
            json!({"layer_types": ["full_attention", "chunked_attention"]}),
            "`chunked_attention` at layer 1; expected full_attention or sliding_attention",
        ),
        (
            "kinds",
            "qwen3",
            json!({"layer_types": ["full_attention"]}),
            "a list of 1; expected one for each of 2 layers",
        ),
        (
            "kinds without a window",
            "qwen3",
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            "`sliding_window` is absent, but layer 1 slides",
        ),
        (
            "two tables",
            "gemma2",
            json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
            "`rope_parameters.full_attention` is present",
        ),
        ("cap", "gemma2", json!({"attn_logit_softcapping": 0.0}), "`attn_logit_softcapping` is 0"),
        ("cap", "gemma3", json!({"attn_logit_softcapping": 9.0}), "`attn_logit_softcapping` is 9"),
        (
            "both ways",
            "gemma3",
            json!({"use_bidirectional_attention": true}),
            "`use_bidirectional_attention` is true",
        ),
        (
            "images",
            "gemma3",
            json!({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}),
            "`model_type` is `gemma3` with a `text_config`",
        ),
    ];
    for (name, golden, fields, want) in cases {
        let folder = changed(golden, &fields);
        expect_error(&format!("{name}: {golden} {fields}"), want, || open(&folder).map(drop));
    }
}

#[test]
fn what_decoders_are_not_asked_for() {
    let outputs = |outputs| BuildOptions { outputs, ..BuildOptions::default() };
    let trunk = changed("gpt2", &json!({"architectures": ["GPT2Model"]}));
    expect_error("decoding a trunk", "`architectures` is a model without a head", || {
        models::open(&trunk.0, &outputs(Outputs::Decode)).map(drop)
    });
    expect_error("an encoder's part", "`model_type` is a decoder", || {
        models::open(&trunk.0, &outputs(Outputs::Encode)).map(drop)
    });
}

#[test]
fn odd_but_valid_configurations() {
    for (golden, fields) in [
        // Storage is the file's, whatever the configuration says of it.
        ("gpt2", json!({"torch_dtype": "bfloat16"})),
        ("llama_gqa", json!({"eos_token_id": null, "pad_token_id": -1})),
        ("llama_gqa", json!({"num_hidden_layers": 2.0, "rope_scaling": null})),
        ("llama_gqa", json!({"max_position_embeddings": 1 << 24})),
        ("mistral", json!({"sliding_window": null})),
        ("gpt2", json!({"architectures": null})),
        ("llama_gqa", json!({"rope_parameters": {"rope_theta": 1e4}})),
    ] {
        let folder = changed(golden, &fields);
        let model = open(&folder).unwrap_or_else(|e| panic!("{golden} {fields}: {e}"));
        assert!(model.graph.outputs().iter().any(|(name, _)| name == "logits"), "{golden}");
    }
    let code = changed("qwen2", &json!({"auto_map": {"AutoModel": "other.Code"}}));
    assert!(open(&code).unwrap().notices.iter().any(|n| n.contains("`auto_map`")));
}

#[test]
fn sizes_left_out_are_the_familys() {
    let message = |golden: &str, field: &str, null: bool| {
        let folder = changed(golden, &json!({field: null}));
        if !null {
            let path = folder.0.join("config.json");
            let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            config.as_object_mut().unwrap().remove(field);
            std::fs::write(path, config.to_string()).unwrap();
        }
        open(&folder).map(|_| ()).unwrap_err().to_string()
    };
    for (golden, field, want) in [
        ("qwen3", "head_dim", "asks for [256, "),
        ("gemma2", "head_dim", "asks for [512, "),
        ("mistral", "num_key_value_heads", "`num_key_value_heads`, which is 8"),
        ("qwen2", "num_key_value_heads", "`num_key_value_heads`, which is 32"),
        ("gemma3", "num_key_value_heads", "asks for [64, "),
        ("llama_gqa", "num_key_value_heads", "k_proj.weight"),
    ] {
        let message = message(golden, field, false);
        assert!(message.contains(want), "{golden}: {message}");
    }
    assert!(message("mistral", "num_key_value_heads", true).contains("k_proj.weight"));
}
