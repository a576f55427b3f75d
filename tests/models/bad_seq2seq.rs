//! Configurations of encoder-decoders that must each get one clear line.

use std::path::Path;

use serde_json::{Value, json};
use tilewright::models::{self, BuildOptions, Outputs};

use crate::bad_inputs::expect_error;
use crate::folder::Folder;

/// A golden folder's configuration with some fields replaced (`null` takes them away), beside its
/// weights. A field `encoder.x` lies in the section `encoder`.
fn altered(golden: &Path, fields: &Value) -> Folder {
    let text = std::fs::read_to_string(golden.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (field, value) in fields.as_object().unwrap() {
        match field.split_once('.') {
            Some((section, field)) => config[section][field] = value.clone(),
            None => config[field] = value.clone(),
        }
    }
    let folder = Folder::new();
    folder.file("config.json", config.to_string());
    let weights = "model.safetensors";
    std::fs::copy(golden.join(weights), folder.0.join(weights)).unwrap();
    folder
}

fn check(name: &str, cases: &[(Value, &str)]) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    models::open(&golden, &BuildOptions::default()).unwrap();
    for (fields, want) in cases {
        let folder = altered(&golden, fields);
        let what = format!("{name} {fields}");
        expect_error(&what, want, || models::open(&folder.0, &BuildOptions::default()).map(drop));
    }
}

#[test]
fn models_without_a_head_generate_nothing() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for outputs in [Outputs::MaskedTokens, Outputs::Encode, Outputs::Decode] {
        let options = BuildOptions { outputs, ..BuildOptions::default() };
        for (name, want) in [
            ("goldens_seq2seq/t5_trunk", "`architectures` is a model without a head"),
            ("goldens_encoders/t5_encoder", "`architectures` is an encoder alone"),
        ] {
            let folder = tests.join(name);
            expect_error(name, want, || models::open(&folder, &options).map(drop));
        }
    }
    // Half of a model under the whole one's class.
    let class = json!({"architectures": ["T5Model"]});
    let half = altered(&tests.join("goldens_encoders/t5_encoder"), &class);
    expect_error("half", "`is_encoder_decoder` is false", || {
        models::open(&half.0, &BuildOptions::default()).map(drop)
    });
}

#[test]
fn t5_fields() {
    check(
        "goldens/t5",
        &[
            (json!({"num_layers": 0}), "`num_layers` is 0"),
            (json!({"num_decoder_layers": -1}), "`num_decoder_layers` is -1"),
            (json!({"num_layers": 1u64 << 31}), "`num_layers` is 2147483648"),
            (json!({"vocab_size": 301}), "shared.weight`: has shape [300, 32]"),
            (json!({"d_model": null}), "`d_model` is missing"),
            (json!({"d_kv": 17}), "SelfAttention.q.weight`: has shape [48, 32]"),
            (json!({"d_ff": 77}), "wi.weight`: has shape [76, 32], the config asks for [77, 32]"),
            (json!({"layer_norm_epsilon": 0}), "`layer_norm_epsilon` is 0"),
            (json!({"relative_attention_num_buckets": 3}), "`relative_attention_num_buckets` is 3"),
            (
                json!({"relative_attention_max_distance": 16}),
                "`relative_attention_max_distance` is 16; expected a whole number from 17",
            ),
            (
                json!({"feed_forward_proj": "split-relu"}),
                "`split-relu`; expected an activation, or",
            ),
            (
                json!({"feed_forward_proj": "magic", "dense_act_fn": null}),
                "is `magic`; expected one",
            ),
            (json!({"dense_act_fn": "magic"}), "`dense_act_fn` is `magic`"),
            (
                json!({"feed_forward_proj": "gated-relu", "is_gated_act": null}),
                "wi_0.weight`: is not",
            ),
            (json!({"tie_word_embeddings": false}), "`lm_head.weight`: is not in the checkpoint"),
            (json!({"is_encoder_decoder": false}), "`is_encoder_decoder` is false"),
            (json!({"is_decoder": true}), "`is_decoder` is true"),
            (json!({"eos_token_id": [1, 300]}), "`eos_token_id` is 300"),
            (json!({"decoder_start_token_id": 300}), "`decoder_start_token_id` is 300"),
            (
                json!({"architectures": ["T5ForQuestionAnswering"]}),
                "is `T5ForQuestionAnswering`; expected",
            ),
            (json!({"model_type": "t6"}), "`t6` is unknown; known: "),
        ],
    );
}

#[test]
fn bart_fields() {
    check(
        "goldens/bart",
        &[
            (json!({"encoder_attention_heads": 3}), "a multiple of `encoder_attention_heads`"),
            (json!({"decoder_attention_heads": 0}), "`decoder_attention_heads` is 0"),
            (json!({"encoder_layers": 0}), "`encoder_layers` is 0"),
            (json!({"decoder_ffn_dim": 75}), "fc1.weight`: has shape [76, 32]"),
            (
                json!({"max_position_embeddings": 1u64 << 63}),
                "`max_position_embeddings` is 92233720",
            ),
            (json!({"max_position_embeddings": 65}), "embed_positions.weight`: has shape [66, 32]"),
            (json!({"activation_function": "magic"}), "`activation_function` is `magic`"),
            (json!({"static_position_embeddings": true}), "`static_position_embeddings` is true"),
            (json!({"extra_pos_embeddings": 0}), "`extra_pos_embeddings` is 0; expected 2"),
            (json!({"do_blenderbot_90_layernorm": true}), "`do_blenderbot_90_layernorm` is true"),
            (json!({"add_final_layer_norm": true}), "layer_norm.weight`: is not in the checkpoint"),
            (json!({"decoder_vocab_size": 300}), "`decoder_vocab_size` is 300; expected 336"),
            (json!({"tie_word_embeddings": false}), "`lm_head.weight`: is not in the checkpoint"),
            (json!({"scale_embedding": 1}), "`scale_embedding` is 1; expected true or false"),
        ],
    );
    check(
        "goldens/marian",
        &[
            (json!({"static_position_embeddings": false}), "`static_position_embeddings` is false"),
            (json!({"normalize_embedding": true}), "layernorm_embedding.weight`: is not in"),
            (json!({"share_encoder_decoder_embeddings": false}), "embed_tokens.weight`: is not in"),
        ],
    );
}

#[test]
fn vaswani_fields() {
    check(
        "goldens/vaswani2017",
        &[
            (json!({"nhead": 3}), "`d_model` is 32; expected a multiple of `nhead`"),
            (json!({"num_encoder_layers": 0}), "`num_encoder_layers` is 0"),
            (json!({"num_decoder_layers": 3}), "decoder.layers.2."),
            (json!({"positional_encoding": "learned"}), "`learned`; expected `sinusoidal_interl"),
            (json!({"activation": "magic"}), "`activation` is `magic`"),
            (json!({"layer_norm_eps": -1.0}), "`layer_norm_eps` is -1.0"),
            (json!({"tie_embeddings": false}), "_embed.weight`: is not in the checkpoint"),
            (json!({"generator_bias": true}), "`generator.bias`: is not in the checkpoint"),
            (json!({"dim_feedforward": 99}), "linear1.weight`: has shape [100, 32]"),
            (json!({"architectures": ["Transformer"]}), "expected *ForConditionalGeneration"),
        ],
    );
}

#[test]
fn encoder_decoder_fields() {
    check(
        "goldens/bert2bert",
        &[
            (json!({"encoder": null}), "`encoder` is missing"),
            (json!({"decoder": 5}), "`decoder` is 5; expected an object"),
            (json!({"tie_encoder_decoder": true}), "`tie_encoder_decoder` is true"),
            (json!({"encoder.model_type": "vit"}), "`encoder.model_type` is `vit`; expected bert"),
            (json!({"decoder.is_decoder": false}), "`decoder.is_decoder` is false"),
            (json!({"encoder.is_decoder": true}), "`encoder.is_decoder` is true"),
            (
                json!({"decoder.add_cross_attention": false}),
                "`decoder.add_cross_attention` is false",
            ),
            (
                json!({"decoder.cross_attention_hidden_size": 48}),
                "cross_attention_hidden_size` is 48",
            ),
            (json!({"decoder.num_attention_heads": 5}), "`decoder.hidden_size` is 32"),
            (json!({"decoder.hidden_act": "magic"}), "`decoder.hidden_act` is `magic`"),
            (json!({"encoder.num_hidden_layers": 3}), "encoder.layer.2."),
            (
                json!({"encoder.position_embedding_type": "relative_key"}),
                "`encoder.position_embedding_type` is `relative_key`",
            ),
        ],
    );
}
