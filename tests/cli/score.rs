//! `score`: losses against PyTorch's, and against forward passes put together by hand.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tilewright::engine::{Device, Runner, model_inputs};
use tilewright::models::{self, BuildOptions, Outputs};
use tilewright::tensor::Tensor;
use tilewright::weights::SafeTensors;

use crate::folder::Folder;
use crate::program::{Done, command, cpu, device, finish, golden, text};

/// Between log probabilities, absolute: single precision carries logits of a few units this far.
const LIMIT: f64 = 1e-4;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

#[track_caller]
fn assert_near(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: {got:?} {want:?}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= LIMIT, "{what}: {i} is {g}, not {w}");
    }
}

/// Runs `score --json --tokens` on a device.
fn score(model: &str, device: &str, rest: &[&str]) -> Vec<Value> {
    let args = ["score", "--json", "--quiet", "--tokens", "--device", device, "--model", model];
    finish(command(args.iter().chain(rest))).jsonl()
}

/// A forward pass of whole logits, on the CPU route.
struct Whole {
    runner: Runner,
    info: models::ModelInfo,
}

impl Whole {
    fn open(name: &str) -> Self {
        let outputs = Outputs::Class { hidden_states: false };
        let options = BuildOptions { outputs, ..BuildOptions::default() };
        let model = models::open(golden(name), &options).unwrap();
        Self { runner: Runner::new(model.graph, Device::cpu()).unwrap(), info: model.info }
    }

    /// `log p(wanted)` at every place of `ids`, or of the decoder's.
    fn logprobs(&self, ids: &[u32], decoder: Option<&[u32]>, wanted: &[u32]) -> Vec<f64> {
        let row = |ids: &[u32]| Tensor::u32([1, ids.len()], ids.to_vec()).unwrap();
        let mut given = BTreeMap::from([("input_ids".to_owned(), row(ids))]);
        if let Some(decoder) = decoder {
            given.insert("decoder_input_ids".to_owned(), row(decoder));
        }
        let inputs = model_inputs(&self.info, given).unwrap();
        let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let logits = &self.runner.run(&given).unwrap()["logits"];
        logprobs(logits, wanted)
    }
}

/// `log softmax(row)[wanted]` of each row of logits.
fn logprobs(logits: &Tensor, wanted: &[u32]) -> Vec<f64> {
    let rows = logits.as_f32().unwrap().chunks_exact(logits.shape().last());
    assert_eq!(rows.len(), wanted.len());
    let one = |(row, &id): (&[f32], &u32)| {
        let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
        f64::from(row[id as usize]) - sum.ln()
    };
    rows.zip(wanted).map(one).collect()
}

/// The forward cases of a golden folder, one text each.
fn cases(name: &str) -> Vec<Value> {
    let index = std::fs::read_to_string(golden(name).join("golden.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let one =
        |case: &&Value| case["kind"] == "forward" && case["ids"].as_array().unwrap().len() == 1;
    let found: Vec<_> = index["cases"].as_array().unwrap().iter().filter(one).cloned().collect();
    assert!(!found.is_empty(), "{name}");
    found
}

fn stored(name: &str, tensor: &Value) -> Tensor {
    let file = SafeTensors::open(golden(name).join("golden.safetensors")).unwrap();
    file.read(tensor.as_str().unwrap()).unwrap()
}

#[test]
fn perplexities_of_the_decoders_are_pytorchs() {
    let gpu = device();
    let names = [
        "gpt2",
        "gpt2_hubnames",
        "opt",
        "gpt_neox",
        "llama_gqa",
        "llama3_rope_tied",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma2",
        "gemma3",
    ];
    for name in names {
        let model = text(golden(name));
        let mut compared = 0;
        for case in cases(name) {
            let input = case["texts"][0].as_str().unwrap();
            let about = &case["outputs"]["token_logprobs"];
            if about.is_null() {
                continue;
            }
            let want = stored(name, &about["tensor"]);
            let want: Vec<_> = want.as_f32().unwrap().iter().map(|&v| f64::from(v)).collect();
            for device in ["cpu", &gpu] {
                let rows = score(&model, device, &["--", input]);
                let got = numbers(&rows[0]["token_logprobs"]);
                assert_near(&got, &want, &format!("{name} on {device}"));
                let mean = -want.iter().sum::<f64>() / want.len() as f64;
                let perplexity = rows[0]["perplexity"].as_f64().unwrap();
                assert!((rows[0]["loss"].as_f64().unwrap() - mean).abs() <= LIMIT);
                assert!((perplexity.ln() - mean).abs() <= LIMIT);
            }
            compared += 1;
        }
        assert!(compared > 0, "{name}: no case with log probabilities");
    }
}

#[test]
fn losses_of_pairs_are_those_of_pytorchs_logits() {
    let gpu = device();
    for name in ["t5", "t5_v11", "bart", "marian"] {
        let (model, mut compared) = (text(golden(name)), 0);
        for case in cases(name) {
            let Some(target) = case["target_texts"][0].as_str() else { continue };
            let pair = format!("{}\t{target}", case["texts"][0].as_str().unwrap());
            let about = &case["outputs"]["logits"];
            if !about["index"].is_null() {
                continue;
            }
            let logits = stored(name, &about["tensor"]);
            let read = ids(&case["decoder_ids"][0]);
            for device in ["cpu", &gpu] {
                let row = &score(&model, device, &["--objective", "pairs", "--", &pair])[0];
                let labels = ids(&row["ids"]);
                // What the decoder read is the start token and then what it was to write.
                assert_eq!(labels[..labels.len() - 1], read[1..], "{name}");
                let got = numbers(&row["token_logprobs"]);
                assert_near(&got, &logprobs(&logits, &labels), &format!("{name} on {device}"));
            }
            compared += 1;
        }
        assert!(compared > 0, "{name}: no case was compared");
    }
}

#[test]
fn pseudo_perplexity_masks_one_token_at_a_time() {
    let gpu = device();
    for name in ["bert_mlm", "roberta_mlm"] {
        let (model, whole) = (text(golden(name)), Whole::open(name));
        let input = "Rain fell over the harbour.";
        let encoded = cpu(["tokenize", "--json", "--model", &model, "--", input]).json();
        let encoded = ids(&encoded["ids"]);
        let mask = cpu(["tokenize", "--json", "--no-special", "--model", &model, "--", {
            if name == "bert_mlm" { "[MASK]" } else { "<mask>" }
        }]);
        let mask = ids(&mask.json()["ids"])[0];
        let body = &encoded[1..encoded.len() - 1];
        let want: Vec<f64> = (1..=body.len())
            .map(|at| {
                let mut masked = encoded.clone();
                masked[at] = mask;
                whole.logprobs(&masked, None, &encoded)[at]
            })
            .collect();
        for device in ["cpu", &gpu] {
            let row = &score(&model, device, &["--batch", "3", "--", input])[0];
            assert_eq!(row["objective"], "masked");
            assert_eq!(ids(&row["ids"]), body, "{name}");
            assert_near(&numbers(&row["token_logprobs"]), &want, &format!("{name} on {device}"));
        }
    }
}

#[test]
fn span_corruption_is_the_loss_of_the_spans() {
    let gpu = device();
    for name in ["t5", "t5_v11"] {
        let (model, whole) = (text(golden(name)), Whole::open(name));
        let input = "Rain fell over the harbour, and the engine rested.";
        let encoded = cpu(["tokenize", "--json", "--model", &model, "--", input]).json();
        let encoded = ids(&encoded["ids"]);
        let (end, body) = encoded.split_last().unwrap();
        let sentinel = |i: usize| {
            let token = format!("<extra_id_{i}>");
            let args = ["tokenize", "--json", "--no-special", "--model", &model, &token];
            *ids(&cpu(args).json()["ids"]).last().unwrap()
        };
        let rows = score(&model, "cpu", &["--seed", "3", "--", input]);
        let labels = ids(&rows[0]["ids"]);
        assert_eq!(labels.last(), Some(end), "{name}: a target ends as a text does");
        // The source again: spans stand once in the text, in order, each behind its sentinel.
        let (mut source, mut at, mut spans) = (Vec::new(), 0, 0);
        let mut rest = &labels[..labels.len() - 1];
        while !rest.is_empty() {
            assert_eq!(rest[0], sentinel(spans), "{name}");
            let next = sentinel(spans + 1);
            let length = rest[1..].iter().position(|id| *id == next).unwrap_or(rest.len() - 1);
            let span = &rest[1..=length];
            let found = (at..body.len()).find(|&i| body[i..].starts_with(span)).unwrap();
            source.extend_from_slice(&body[at..found]);
            source.push(rest[0]);
            (at, rest, spans) = (found + length, &rest[length + 1..], spans + 1);
        }
        source.extend_from_slice(&body[at..]);
        source.push(*end);
        let dropped = labels.len() - 1 - spans;
        assert_eq!(dropped, (body.len() as f64 * 0.15).round() as usize, "{name}");
        let read = [&[0], &labels[..labels.len() - 1]].concat();
        let want = whole.logprobs(&source, Some(&read), &labels);
        for device in ["cpu", &gpu] {
            let row = &score(&model, device, &["--seed", "3", "--", input])[0];
            assert_eq!(row["objective"], "span");
            assert_eq!(ids(&row["ids"]), labels, "a seed names the spans");
            assert_near(&numbers(&row["token_logprobs"]), &want, &format!("{name} on {device}"));
        }
    }
}

#[test]
fn windows_go_over_long_texts() {
    let folder = Folder::new();
    let long = "The engine rested.\nRain fell over the harbour.\n".repeat(6);
    let file = text(folder.file("long.txt", &long));
    let (model, whole) = (text(golden("gpt2")), Whole::open("gpt2"));
    let encoded = cpu(["tokenize", "--json", "--model", &model, "--", &long]).json();
    let encoded = ids(&encoded["ids"]);
    let (context, stride) = (16, 6);
    let mut want = Vec::new();
    while want.len() + 1 < encoded.len() {
        let first = want.len() + 1;
        let end = encoded.len().min(if first == 1 { context } else { first + stride });
        let window = &encoded[end.saturating_sub(context)..end];
        let labels = [&window[1..], &[0]].concat();
        let scored = whole.logprobs(window, None, &labels);
        want.extend_from_slice(&scored[window.len() - 1 - (end - first)..window.len() - 1]);
    }
    for device in ["cpu", &device()] {
        let options = ["--whole", "--context", "16", "--stride", "6", "--file", &file];
        let rows = score(&model, device, &options);
        assert_eq!(rows.len(), 2, "the text and the total");
        assert_eq!(ids(&rows[0]["ids"]), encoded[1..]);
        assert_near(&numbers(&rows[0]["token_logprobs"]), &want, device);
        assert_eq!(rows[1]["tokens"], json!(encoded.len() - 1));
    }
    // By lines: as many texts as lines, and the total is the mean over all their tokens.
    let rows = score(&model, "cpu", &["--file", &file]);
    let (total, lines) = rows.split_last().unwrap();
    assert_eq!((lines.len(), &total["texts"]), (12, &json!(12)));
    let all: Vec<_> = lines.iter().flat_map(|row| numbers(&row["token_logprobs"])).collect();
    let mean = -all.iter().sum::<f64>() / all.len() as f64;
    assert!((total["loss"].as_f64().unwrap() - mean).abs() < 1e-9);
}

#[test]
fn a_better_text_has_a_lower_perplexity() {
    let texts = ["Anna gave him the red coat. Soon Finn was warm and smiled at her."];
    let out = cpu(["score", "--quiet", "--model", "storyteller", texts[0]]).ok();
    assert!(out.contains("perplexity of 1 texts"), "{out}");
    let rows = |words: &str| score("storyteller", "cpu", &["--", words])[0]["loss"].as_f64();
    let shuffled = "smiled Finn the warm coat him at gave Anna was her and red Soon.";
    assert!(rows(texts[0]).unwrap() + 1.0 < rows(shuffled).unwrap());
}

#[test]
fn texts_of_no_or_one_token_are_no_error() {
    let model = text(golden("gpt2"));
    let rows = score(&model, "cpu", &["--", "", "T"]);
    for row in &rows {
        assert_eq!((&row["tokens"], &row["loss"]), (&json!(0), &Value::Null), "{row}");
    }
    let t5 = text(golden("t5"));
    assert_eq!(score(&t5, "cpu", &["--", ""])[0]["tokens"], json!(0));
}

#[test]
fn what_cannot_be_scored_is_said() {
    let fails = |name: &str, rest: &[&str], wants: &[&str]| {
        let model = text(golden(name));
        let run: Done = cpu(["score", "--model", &model].iter().chain(rest));
        run.fails(wants);
    };
    fails("bert_cls", &["x"], &["BertForSequenceClassification", "*ForMaskedLM"]);
    fails("bert_base", &["x"], &["BertModel", "*ForMaskedLM"]);
    fails("gpt2", &["--objective", "masked", "x"], &["`masked`", "CausalLm"]);
    fails("bert_mlm", &["--objective", "causal", "x"], &["`causal`", "MaskedLm"]);
    fails("bart", &["x"], &["sentinel", "<extra_id_0>"]);
    fails("t5", &["--objective", "pairs", "a\tb", "no tab"], &["text 2", "tab"]);
    fails("gpt2", &["--context", "1", "x"], &["context of 1", "expected 2"]);
    fails("gpt2", &["--context", "999999", "x"], &["context of 999999"]);
    fails("gpt2", &["--file", "missing.txt"], &["missing.txt"]);
    let model = text(golden("gpt2"));
    for (rest, want) in [
        (vec!["--context", "0", "x"], "--context"),
        (vec!["--stride", "0", "x"], "--stride"),
        (vec!["--batch", "0", "x"], "--batch"),
        (vec!["--objective", "next", "x"], "causal"),
        (vec!["--whole", "x"], "--file"),
        (vec![], "TEXTS"),
    ] {
        cpu(["score", "--model", &model].into_iter().chain(rest)).misused(want);
    }
}
