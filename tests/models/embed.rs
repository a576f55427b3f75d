//! Sentence embeddings against PyTorch's numbers, MiniLM's among them, on the device and on the
//! CPU, hidden states layer by layer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tilewright::Tensor;
use tilewright::engine::{Device, Runner, model_inputs};
use tilewright::models::{self, BuildOptions, Outputs};
use tilewright::tasks::{EmbedOptions, Embedder};
use tilewright::weights::{self, Checkpoint, SafeTensors};

use crate::common;
use crate::folder::Folder;
use crate::golden::{Golden, LIMIT, assert_close};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn devices() -> [Device; 2] {
    [Device::gpu(&common::shared()), Device::cpu()]
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn bert_base_matches_pytorch() {
    for device in devices() {
        Golden::open("bert_base").check_forward(&device);
    }
}

#[test]
fn bert_base_pools_and_normalises_like_the_golden() {
    let folder = root().join("tests/goldens/bert_base");
    let golden = json(&folder.join("golden.json"));
    let file = SafeTensors::open(folder.join("golden.safetensors")).unwrap();
    for device in devices() {
        let options = EmbedOptions { normalize: Some(true), ..EmbedOptions::default() };
        let embedder = Embedder::open(&folder, device, options).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            if !case["text_pairs"].is_null() {
                continue;
            }
            let texts: Vec<_> =
                case["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
            let got = embedder.embed(&texts).unwrap();
            let want =
                file.read(case["outputs"]["mean_pooled_l2"]["f64"].as_str().unwrap()).unwrap();
            let flat = got.iter().flat_map(|e| e.vector.iter().copied()).collect();
            let got = Tensor::f32(want.shape(), flat).unwrap();
            assert_close(&got, &want, None, LIMIT, "mean_pooled_l2");
        }
    }
}

/// SPLADE: weights of the vocabulary's words instead of a sentence's vector.
#[test]
fn splade_matches_sentence_transformers() {
    let golden = Golden::open("splade");
    let list = |case: &Value, key: &str| case[key].as_array().unwrap().clone();
    for device in devices() {
        let embedder = Embedder::open(&golden.folder, device, EmbedOptions::default()).unwrap();
        for case in golden.cases("sparse") {
            let texts: Vec<_> = list(case, "texts");
            let texts: Vec<_> = texts.iter().map(|text| text.as_str().unwrap()).collect();
            let got = embedder.embed(&texts).unwrap();
            for (embedding, vector) in got.iter().zip(list(case, "vectors")) {
                let ids = list(&vector, "indices").iter().map(|id| id.as_u64().unwrap()).collect();
                let entries = embedding.sparse();
                assert!(entries.is_sorted_by(|a, b| a.1 >= b.1 && b.1 > 0.0), "{entries:?}");
                let found: BTreeSet<_> = entries.iter().map(|e| u64::from(e.0)).collect();
                assert_eq!(found, ids);
            }
            let flat: Vec<_> = got.iter().flat_map(|e| e.vector.iter().copied()).collect();
            let got = Tensor::f32([texts.len(), embedder.width()], flat).unwrap();
            assert_close(&got, &golden.read(&case["dense"]["f64"]), None, 2e-5, "weights of words");
        }
    }
}

fn minilm() -> PathBuf {
    let folder = root().join("models/all-MiniLM-L6-v2");
    assert!(folder.is_dir(), "MiniLM is not there; tools/get_minilm.sh gets it");
    folder
}

#[test]
fn minilm_matches_sentence_transformers() {
    let golden = json(&root().join("tests/goldens/minilm_golden.json"));
    let file = SafeTensors::open(root().join("tests/goldens/minilm_golden.safetensors")).unwrap();
    let want = file.read("embeddings.f64").unwrap();
    let want: Vec<&[f32]> = want.as_f32().unwrap().chunks_exact(384).collect();
    let sentences = golden["sentences"].as_array().unwrap();
    let texts: Vec<_> = sentences.iter().map(|s| s["text"].as_str().unwrap()).collect();
    for device in devices() {
        let name = device.name().to_owned();
        let embedder = Embedder::open(minilm(), device, EmbedOptions::default()).unwrap();
        assert_eq!(embedder.max_tokens(), 256);
        for sentence in sentences {
            let mut encoding =
                embedder.tokenizer().encode(sentence["text"].as_str().unwrap(), true).unwrap();
            encoding.truncate(embedder.max_tokens()).unwrap();
            let ids: Vec<u32> = serde_json::from_value(sentence["ids"].clone()).unwrap();
            assert_eq!(encoding.ids, ids, "{}", sentence["text"]);
        }
        let batch = embedder.embed(&texts).unwrap();
        for ((got, want), text) in batch.iter().zip(&want).zip(&texts) {
            let pairs =
                || got.vector.iter().zip(want.iter()).map(|(g, w)| (f64::from(*g), f64::from(*w)));
            let max = pairs().map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
            let dot: f64 = pairs().map(|(g, w)| g * w).sum();
            let lengths: f64 =
                pairs().map(|(g, _)| g * g).sum::<f64>() * pairs().map(|(_, w)| w * w).sum::<f64>();
            let cosine = dot / lengths.sqrt();
            assert!(max <= 2e-5, "{name}: {text:?} differs by {max:.1e}");
            assert!(cosine >= 0.999_999, "{name}: {text:?} has cosine {cosine}");
        }
        // One by one gives the same vectors as one batch of mixed lengths.
        for (i, text) in texts.iter().enumerate().step_by(3) {
            let alone = embedder.embed(&[text]).unwrap();
            let difference = |(a, b): (&f32, &f32)| (a - b).abs();
            let max =
                alone[0].vector.iter().zip(&batch[i].vector).map(difference).fold(0.0, f32::max);
            assert!(max <= 1e-6, "{name}: {text:?} alone differs by {max:.1e}");
        }
    }
}

#[test]
fn minilm_hidden_states_match_layer_by_layer() {
    let golden = json(&root().join("tests/goldens/minilm_golden.json"));
    let file = SafeTensors::open(root().join("tests/goldens/minilm_golden.safetensors")).unwrap();
    let outputs = Outputs::Class { hidden_states: true };
    for device in devices() {
        let name = device.name().to_owned();
        let model =
            models::open(minilm(), &BuildOptions { outputs, ..BuildOptions::default() }).unwrap();
        let info = model.info.clone();
        let runner = Runner::new(model.graph, device).unwrap();
        for sentence in golden["sentences"].as_array().unwrap() {
            let Some(states) = sentence["hidden_states"].as_array() else { continue };
            let ids: Vec<u32> = serde_json::from_value(sentence["ids"].clone()).unwrap();
            let ids = Tensor::u32([1, ids.len()], ids).unwrap();
            let inputs = model_inputs(&info, [("input_ids".to_owned(), ids)].into()).unwrap();
            let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            let got = runner.run(&given).unwrap();
            assert_eq!(states.len(), info.n_layers + 1);
            for (i, tensor) in states.iter().enumerate() {
                let want = file.read(tensor.as_str().unwrap()).unwrap();
                let what = format!("{name} hidden state {i}");
                assert_close(&got[&format!("hidden_states.{i}")], &want, None, LIMIT, &what);
            }
        }
    }
}

/// A checkpoint with one tensor under a name that nobody asks for: as if it were missing.
fn without(bytes: &[u8], name: &str) -> Vec<u8> {
    let key = format!("\"{name}\"");
    let at = bytes.windows(key.len()).position(|w| w == key.as_bytes()).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at + 1] = b'?';
    bytes
}

#[test]
fn no_tensor_that_a_model_uses_may_be_missing() {
    let mut replaced = BTreeSet::new();
    let mut models = 0;
    for goldens in ["goldens", "goldens_encoders", "goldens_decoders", "goldens_seq2seq"] {
        for entry in std::fs::read_dir(root().join("tests").join(goldens)).unwrap() {
            let golden = entry.unwrap().path();
            let Ok(bytes) = std::fs::read(golden.join("model.safetensors")) else { continue };
            models += 1;
            let folder = Folder::new();
            folder.file("config.json", std::fs::read(golden.join("config.json")).unwrap());
            folder.file("model.safetensors", &bytes);
            let open = || models::open(&folder.0, &BuildOptions::default());
            let graph = open().unwrap().graph;
            let checkpoint = Checkpoint::open(&folder.0).unwrap();
            let used = graph.weights().into_iter().map(|w| w.name());
            for name in used.filter(|name| checkpoint.contains(name)) {
                folder.file("model.safetensors", without(&bytes, name));
                match open() {
                    Err(e) => assert!(e.to_string().contains("is not in the checkpoint"), "{e}"),
                    Ok(_) => _ = replaced.insert(name.replace("model.", "")),
                }
            }
        }
    }
    // What transformers also goes without: zeros, no pooled output, computed positions, and
    // tables that stand for each other.
    let expected = [
        "decoder.embed_positions.weight",
        "decoder.embed_tokens.weight",
        "embed_tokens.weight",
        "encoder.embed_positions.weight",
        "encoder.embed_tokens.weight",
        "final_logits_bias",
        "lm_head.decoder.bias",
        "lm_head.weight",
        "pooler.dense.weight",
        "pooler.weight",
        "shared.weight",
        "transformer.wte.weight",
    ];
    assert!(replaced.iter().eq(&expected), "{replaced:?}");
    assert!(models >= 80, "{models} models");
}

#[test]
fn tied_tables_may_stand_under_either_name() {
    let folders = [
        ("goldens/gpt2", "wte.weight", "lm_head.weight"),
        ("goldens/opt", "embed_tokens.weight", "lm_head.weight"),
        ("goldens_decoders/gpt_neox_tied", "embed_in.weight", "embed_out.weight"),
        ("goldens/llama3_rope_tied", "embed_tokens.weight", "lm_head.weight"),
        ("goldens/gemma2", "embed_tokens.weight", "lm_head.weight"),
        ("goldens/t5", "shared.weight", "lm_head.weight"),
        ("goldens/bart", "shared.weight", "lm_head.weight"),
        ("goldens/roberta_mlm", "word_embeddings.weight", "lm_head.decoder.weight"),
    ];
    for (golden, words, own) in folders {
        let golden = Golden::open(root().join("tests").join(golden).to_str().unwrap());
        let file = Checkpoint::open(&golden.folder).unwrap();
        assert!(!file.contains(own), "{own}");
        let renamed = |name: &str| if name.ends_with(words) { own } else { name }.to_owned();
        let tensors: Vec<_> =
            file.names().map(|name| (renamed(name), file.read(name).unwrap())).collect();
        let tensors: Vec<_> = tensors.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
        let folder = Folder::new();
        weights::write(folder.0.join("model.safetensors"), &tensors).unwrap();
        let config = std::fs::read_to_string(golden.folder.join("config.json")).unwrap();
        folder.file("config.json", &config);
        let logits = |folder: &Path| {
            let model = models::open(folder, &BuildOptions::default()).unwrap();
            let inputs = golden.inputs(golden.cases("forward")[0], &model.info);
            let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            Runner::new(model.graph, Device::cpu()).unwrap().run(&given).unwrap()["logits"].clone()
        };
        let [got, want] = [&folder.0, &golden.folder].map(|f| logits(f));
        assert_eq!(got.as_f32().unwrap(), want.as_f32().unwrap(), "{own}");
        // Untied the word table is missing.
        let mut config: Value = serde_json::from_str(&config).unwrap();
        config["tie_word_embeddings"] = false.into();
        folder.file("config.json", config.to_string());
        let error = models::open(&folder.0, &BuildOptions::default()).map(drop).unwrap_err();
        assert!(error.to_string().contains("is not in the checkpoint"), "{error}");
    }
}
