//! Encoder-decoders against PyTorch's numbers and against themselves: whole passes with every
//! hidden state, and steps that keep keys and values, on the device and on the CPU.

mod random;
mod steps;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tilewright::engine::{Device, Runner};
use tilewright::models::{self, BuildOptions, Kind};
use tilewright::{Format, Tensor};

use crate::common;
use crate::golden::{Golden, LIMIT, assert_close};
use steps::{Most, Steps, best};

fn gpu() -> Device {
    Device::gpu(&common::shared())
}

fn devices() -> [Device; 2] {
    [gpu(), Device::cpu()]
}

/// Every folder of an encoder-decoder, and its short name.
fn folders() -> Vec<(String, Golden)> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let names = ["bart", "bert2bert", "marian", "t5", "t5_v11", "vaswani2017"];
    let mut paths: Vec<PathBuf> = names.map(|n| tests.join("goldens").join(n)).into();
    let more = std::fs::read_dir(tests.join("goldens_seq2seq")).unwrap();
    paths.extend(more.map(|e| e.unwrap().path()).filter(|p| p.is_dir()));
    paths.sort();
    assert!(paths.len() >= names.len() + 10, "{paths:?}");
    let open = |path: PathBuf| Golden::open(path.to_str().unwrap());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.into_iter().map(|path| (name(&path), open(path))).collect()
}

/// Those with a head that generates.
fn generating() -> impl Iterator<Item = (String, Golden)> {
    folders().into_iter().filter(|(name, _)| !name.ends_with("_trunk"))
}

#[test]
fn whole_passes_match_pytorch() {
    for device in devices() {
        for (_, golden) in folders() {
            golden.check_forward(&device);
        }
    }
}

/// Weights in 16 bits: the device against the CPU closely, and both near the f32 model. A computed
/// position table must stay f32.
#[test]
fn weights_in_16_bits() {
    for name in ["bert2bert", "marian"] {
        let golden = Golden::open(name);
        let run = |device: &Device, dtype| {
            let options = BuildOptions { dtype: Some(dtype), ..BuildOptions::default() };
            let model = models::open(&golden.folder, &options).unwrap();
            let case = golden.cases("forward")[0];
            let inputs = golden.inputs(case, &model.info);
            let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            Runner::new(model.graph, device.clone()).unwrap().run(&given).unwrap()
        };
        let [device, cpu] = devices().map(|device| run(&device, Format::BF16));
        let exact = run(&Device::cpu(), Format::F32);
        for (output, want) in &cpu {
            assert_close(&device[output], want, None, LIMIT, &format!("{name} {output}"));
            assert_close(want, &exact[output], None, 0.03, &format!("{name} {output} in bf16"));
            let (narrow, wide) = (want.as_f32().unwrap(), exact[output].as_f32().unwrap());
            assert!(narrow != wide, "{name} {output}: not stored in 16 bits");
        }
    }
}

#[test]
fn steps_with_kept_keys_equal_whole_passes() {
    for device in devices() {
        // A step does not see that padding stands between the tokens before it, in transformers
        // either.
        for (name, golden) in generating().filter(|(name, _)| name != "roberta_inner_pad") {
            let model = models::open(&golden.folder, &BuildOptions::default()).unwrap();
            assert_eq!(model.info.kind, Kind::EncoderDecoder);
            let runner = Runner::new(model.graph, device.clone()).unwrap();
            // Room for more than any case needs: strides must not depend on the capacity.
            let most = Most { batch: 4, source: 40, context: 30 };
            let steps = Steps::new(&golden.folder, &device, most);
            let cuts: [&[usize]; 2] = [&[1, 5, 2], &[3, 1, 1]];
            for (case, lengths) in golden.cases("forward").into_iter().rev().zip(cuts) {
                let what = format!("{name} {} on {}", case["name"], device.name());
                let inputs = golden.inputs(case, &model.info);
                let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
                steps.check(&inputs, &runner.run(&given).unwrap(), lengths, LIMIT, &what);
            }
        }
    }
}

fn ids(value: &Value) -> Vec<u32> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().flat_map(ids).collect(),
        other => vec![other.as_u64().unwrap() as u32],
    }
}

/// What a case's settings make of a step's logits: forced tokens first, then the best that is
/// not banned.
fn choose(params: &Value, step: usize, logits: &[f32]) -> u32 {
    let last = step as u64 + 1 == params["max_new_tokens"].as_u64().unwrap();
    let forced = if step == 0 { ids(&params["forced_bos_token_id"]) } else { Vec::new() };
    let forced = if last { ids(&params["forced_eos_token_id"]) } else { forced };
    let banned = ids(&params["bad_words_ids"]);
    forced.first().copied().unwrap_or_else(|| best(logits, &banned))
}

/// Decodes a case's prompt; new ids, and the logits of every step side by side.
fn greedy(steps: &Steps, case: &Value) -> (Vec<u32>, Vec<f32>) {
    let prompt = ids(&case["prompt_ids"]);
    let mask = Tensor::u32([1, prompt.len()], vec![1; prompt.len()]).unwrap();
    steps.encode(&Tensor::u32([1, prompt.len()], prompt).unwrap(), &mask);
    let params = &case["params"];
    let mut current = ids(&params["decoder_start_token_id"])[0];
    let (mut new_ids, mut logits) = (Vec::new(), Vec::new());
    while new_ids.len() as u64 != params["max_new_tokens"].as_u64().unwrap() {
        let id = Tensor::u32([1, 1], vec![current]).unwrap();
        let got = steps.decode(&id, new_ids.len(), &mask);
        let step = got["logits"].as_f32().unwrap();
        logits.extend_from_slice(step);
        current = choose(params, new_ids.len(), step);
        new_ids.push(current);
        if ids(&params["eos_token_id"]).contains(&current) {
            break;
        }
    }
    (new_ids, logits)
}

#[test]
fn greedy_steps_give_the_golden_ids() {
    for device in devices() {
        for (name, golden) in generating() {
            let most = Most { batch: 1, source: 24, context: 25 };
            let steps = Steps::new(&golden.folder, &device, most);
            let mut compared = 0;
            for case in golden.cases("generate") {
                let what = format!("{name} {} on {}", case["name"], device.name());
                let (new_ids, mut logits) = greedy(&steps, case);
                assert_eq!(new_ids, ids(&case["new_ids"]), "{what}");
                if !case["logits"].is_null() {
                    let want = golden.read(&case["logits"]);
                    logits.truncate(want.shape().numel());
                    let got = Tensor::f32(want.shape(), logits).unwrap();
                    assert_close(&got, &want, None, LIMIT, &what);
                    compared += 1;
                }
            }
            assert!(compared > 0, "{name}: no logits compared");
        }
    }
}
