//! Model folders that are spoiled: each gets one clear line, and no panic.

use std::path::Path;

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::program::{copy_golden, cpu, golden, text};

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Every command that opens the whole folder must refuse it with all of `wants`.
#[track_caller]
fn refused(model: &Path, wants: &[&str]) {
    let model = text(model);
    for command in [&["embed", "x"][..], &["plan"], &["graph"]] {
        cpu(command.iter().copied().chain(["--model", &model])).fails(wants);
    }
}

#[test]
fn config_fields_are_checked() {
    let huge = 1i64 << 31;
    let cases: Vec<(&str, Value, &[&str])> = vec![
        ("model_type", json!("frobformer"), &["`frobformer`", " bert, "]),
        ("model_type", json!(7), &["`model_type` is 7", "a string"]),
        ("model_type", Value::Null, &["`model_type` is missing"]),
        ("hidden_act", json!("magic"), &["`hidden_act` is `magic`", "gelu, "]),
        ("num_attention_heads", json!(5), &["`hidden_size` is 48", "`num_attention_heads`", "5"]),
        ("num_attention_heads", json!(0), &["`num_attention_heads` is 0"]),
        ("num_hidden_layers", json!(0), &["`num_hidden_layers` is 0"]),
        ("num_hidden_layers", json!(-1), &["`num_hidden_layers` is -1"]),
        ("num_hidden_layers", json!(huge), &["`num_hidden_layers` is 2147483648"]),
        ("num_hidden_layers", json!(3), &["encoder.layer.2.", "is not in the checkpoint"]),
        ("vocab_size", json!(301), &["word_embeddings.weight", "[300, 48]", "[301, 48]"]),
        ("vocab_size", json!(u64::MAX), &["`vocab_size` is 18446744073709551615"]),
        ("max_position_embeddings", json!(81), &["position_embeddings", "[80, 48]", "[81, 48]"]),
        ("max_position_embeddings", json!(1u64 << 63), &["`max_position_embeddings`"]),
        ("type_vocab_size", json!(3), &["token_type_embeddings", "[2, 48]", "[3, 48]"]),
        ("intermediate_size", json!(101), &["intermediate.dense", "[100, 48]", "[101, 48]"]),
        ("intermediate_size", json!(1.5), &["`intermediate_size` is 1.5"]),
        ("hidden_size", json!(51), &["word_embeddings.weight", "[300, 48]", "[300, 51]"]),
        ("hidden_size", json!("48"), &["`hidden_size` is \"48\"", "a whole number"]),
        ("layer_norm_eps", json!(0), &["`layer_norm_eps` is 0"]),
        ("layer_norm_eps", json!(-1e-5), &["`layer_norm_eps` is -0.00001"]),
        ("layer_norm_eps", json!("NaN"), &["`layer_norm_eps` is \"NaN\""]),
        ("position_embedding_type", json!("rotary"), &["`position_embedding_type`", "rotary"]),
        ("is_decoder", json!(true), &["`is_decoder` is true", "encoder"]),
        ("quantization_config", json!({"quant_method": "gptq"}), &["gptq"]),
    ];
    let folder = Folder::new();
    for (i, (field, value, wants)) in cases.into_iter().enumerate() {
        let model = folder.0.join(i.to_string());
        copy_golden("bert_base", &model);
        edit(&model.join("config.json"), |c| c[field] = value);
        let config = text(model.join("config.json"));
        // A wrong field is one of the file's; a wrong tensor is named by itself.
        let names_file = wants[0].starts_with('`');
        let wants: Vec<_> = wants.iter().copied().chain(names_file.then_some(&*config)).collect();
        refused(&model, &wants);
    }
}

#[test]
fn classes_are_checked_where_their_outputs_are_asked_for() {
    let folder = Folder::new();
    let model = folder.0.join("model");
    copy_golden("bert_base", &model);
    edit(&model.join("config.json"), |c| c["architectures"] = json!(["BertForNothing"]));
    let path = text(&model);
    cpu(["plan", "--model", &path]).fails(&["`architectures`", "BertForNothing", "*Model"]);
    // A sentence embedding needs the trunk only.
    cpu(["embed", "--model", &path, "x"]).ok();
}

#[test]
fn files_are_checked() {
    type Spoil = fn(&Path);
    let remove = |model: &Path, names: &[&str]| {
        names.iter().for_each(|n| std::fs::remove_file(model.join(n)).unwrap());
    };
    let cases: [(Spoil, &[&str]); 8] = [
        (|m| std::fs::remove_file(m.join("config.json")).unwrap(), &["config.json"]),
        (|m| std::fs::write(m.join("config.json"), "").unwrap(), &["config.json", "is empty"]),
        (|m| std::fs::write(m.join("config.json"), "[1]").unwrap(), &["config.json", "an object"]),
        (
            |m| {
                let config = std::fs::read_to_string(m.join("config.json")).unwrap();
                let config = config.replace("1e-12", "NaN");
                std::fs::write(m.join("config.json"), config).unwrap();
            },
            &["config.json", "is not the JSON expected"],
        ),
        (
            |m| std::fs::remove_file(m.join("model.safetensors")).unwrap(),
            &["holds neither model.safetensors nor model.safetensors.index.json"],
        ),
        (
            |m| std::fs::rename(m.join("model.safetensors"), m.join("pytorch_model.bin")).unwrap(),
            &["pytorch_model.bin", "save_pretrained"],
        ),
        (
            |m| {
                let file = std::fs::File::options().write(true).open(m.join("model.safetensors"));
                file.unwrap().set_len(200_000).unwrap();
            },
            &["model.safetensors"],
        ),
        (|m| std::fs::write(m.join("model.safetensors"), "").unwrap(), &["model.safetensors"]),
    ];
    let folder = Folder::new();
    for (i, (spoil, wants)) in cases.into_iter().enumerate() {
        let model = folder.0.join(i.to_string());
        copy_golden("bert_base", &model);
        spoil(&model);
        refused(&model, wants);
    }

    let model = folder.0.join("no tokenizer");
    copy_golden("bert_base", &model);
    remove(&model, &["tokenizer.json"]);
    cpu(["tokenize", "--model", &text(&model), "x"]).ok();
    remove(&model, &["vocab.txt"]);
    for command in ["embed", "tokenize"] {
        cpu([command, "--model", &text(&model), "x"]).fails(&["neither tokenizer.json nor"]);
    }
    cpu(["plan", "--model", &text(&model)]).ok();

    for missing in [folder.0.join("nowhere"), golden("bert_base/config.json")] {
        refused(&missing, &[&text(&missing), "no such folder", "model.safetensors"]);
    }
}

#[test]
fn ids_beyond_the_vocabulary_are_found_before_anything_runs() {
    let folder = Folder::new();
    let pad = folder.0.join("pad");
    copy_golden("bert_base", &pad);
    edit(&pad.join("config.json"), |c| c["pad_token_id"] = json!(5000));
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        edit(&pad.join(name), |c| drop(c.as_object_mut().unwrap().remove("pad_token")));
    }
    edit(&pad.join("tokenizer.json"), |c| c["padding"] = Value::Null);
    let embed = ["embed", "x", "a longer text", "--model"];
    cpu(embed.iter().copied().chain([&*text(&pad)])).fails(&["padding", "5000", "300"]);

    let token = folder.0.join("token");
    copy_golden("bert_base", &token);
    edit(&token.join("tokenizer.json"), |c| c["model"]["vocab"]["extra"] = json!(300));
    cpu(embed.iter().copied().chain([&*text(&token)])).fails(&["`extra`", "300"]);
}

#[test]
fn layers_that_the_config_leaves_out_are_told_of() {
    let folder = Folder::new();
    for (golden, field, layer) in [
        ("bert_base", "num_hidden_layers", "encoder.layer.1."),
        ("gpt2", "n_layer", "h.1."),
        ("t5", "num_layers", "encoder.block.1."),
        ("t5", "num_decoder_layers", "decoder.block.1."),
    ] {
        let model = folder.0.join(field);
        copy_golden(golden, &model);
        let graph = || cpu(["graph", "--model", &text(&model)]);
        assert!(!graph().err.contains("fewer layers"), "{golden}");
        edit(&model.join("config.json"), |c| c[field] = json!(1));
        let done = graph();
        assert!(done.err.contains("fewer layers") && done.err.contains(layer), "{done:?}");
    }
}

#[test]
fn remote_code_is_ignored_and_said_so() {
    let folder = Folder::new();
    let model = folder.0.join("model");
    copy_golden("bert_base", &model);
    let map = json!({"AutoModel": "evil.Model"});
    edit(&model.join("config.json"), |c| c["auto_map"] = map);
    let done = cpu(["embed", "--model", &text(&model), "x"]);
    assert!(done.err.contains("`auto_map`") && done.err.contains("ignored"), "{done:?}");
    done.ok();
    let done = cpu(["embed", "--quiet", "--model", &text(&model), "x"]);
    assert_eq!(done.err, "");
}
