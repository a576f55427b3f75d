//! Encoder-decoders against PyTorch's numbers and against themselves: whole passes with every
//! hidden state, and steps that keep keys and values, on the device and on the CPU.

#[path = "../common/mod.rs"]
mod common;
mod goldens;
mod steps;

use goldens::{Golden, LIMIT, close, row};
use serde_json::Value;
use steps::{Most, Steps};
use tilewright::Tensor;
use tilewright::gpu::GpuOptions;
use tilewright::models::{
    self, BuildOptions, Device, Kind, NEXT_TOKEN, Outputs, Runner, model_inputs,
};

const FOLDERS: [&str; 5] = ["bart", "marian", "t5", "t5_v11", "vaswani2017"];

fn devices() -> [Device; 2] {
    [Device::gpu(&common::open(GpuOptions::default())), Device::cpu()]
}

#[test]
fn whole_passes_match_pytorch() {
    let outputs = Outputs::Class { hidden_states: true };
    for device in devices() {
        for golden in FOLDERS.map(Golden::open) {
            let options = BuildOptions { outputs, ..BuildOptions::default() };
            let model = models::open(&golden.folder, &options).unwrap();
            assert_eq!(model.info.kind, Kind::EncoderDecoder);
            let runner = Runner::new(model.graph, device.clone()).unwrap();
            for case in golden.cases("forward") {
                let inputs = model_inputs(&model.info, golden.inputs(case)).unwrap();
                let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
                let got = runner.run(&given).unwrap();
                assert!(golden.check(case, &inputs, &got, device.name()) >= 3, "{}", golden.name);
            }
        }
    }
}

/// Columns `from..to` of a u32 [batch, tokens] tensor.
fn columns(tensor: &Tensor, from: usize, to: usize) -> Tensor {
    let rows = tensor.as_u32().unwrap().chunks_exact(tensor.shape().last());
    let values: Vec<u32> = rows.flat_map(|row| &row[from..to]).copied().collect();
    Tensor::u32([tensor.shape().rows(), to - from], values).unwrap()
}

/// Runs a decoder in steps of these many tokens and holds the logits of each step's last token
/// against `logits` [batch, tokens, vocabulary] of a whole pass, where `mask` counts them.
fn check_steps(
    steps: &Steps,
    lengths: &[usize],
    [ids, mask, source_mask]: [&Tensor; 3],
    logits: &Tensor,
    what: &str,
) {
    let (batch, tokens) = (ids.shape().rows(), ids.shape().last());
    let (mut past, mut compared) = (0, 0);
    for length in lengths.iter().cycle() {
        if past == tokens {
            break;
        }
        let end = (past + length).min(tokens);
        let got = steps.decode(&columns(ids, past, end), past, source_mask);
        let vocab = logits.shape().last();
        for b in 0..batch {
            if mask.as_u32().unwrap()[b * tokens + end - 1] == 0 {
                continue;
            }
            let step = &got["logits"].as_f32().unwrap()[b * vocab..(b + 1) * vocab];
            let what = format!("{what}: row {b}, tokens {past}..{end}");
            close(step, row(logits, b, end - 1), LIMIT, &what);
            let next = got[NEXT_TOKEN].as_u32().unwrap()[b];
            assert_eq!(next, best(step, &[]), "{what}");
            compared += 1;
        }
        past = end;
    }
    assert!(compared >= batch, "{what}: {compared} rows compared");
}

/// The first of the largest logits, those of `banned` ids left out.
fn best(logits: &[f32], banned: &[u32]) -> u32 {
    let allowed = |i: &usize| !banned.contains(&(*i as u32));
    let ids = (0..logits.len()).filter(allowed);
    ids.reduce(|a, b| if logits[b] > logits[a] { b } else { a }).unwrap() as u32
}

#[test]
fn steps_with_kept_keys_equal_whole_passes() {
    for device in devices() {
        for golden in FOLDERS.map(Golden::open) {
            let model = models::open(&golden.folder, &BuildOptions::default()).unwrap();
            let runner = Runner::new(model.graph, device.clone()).unwrap();
            // Room for more than any case needs: strides must not depend on the capacity.
            let most = Most { batch: 4, source: 40, context: 30 };
            let steps = Steps::new(&golden.folder, &device, most);
            for (case, lengths) in golden.cases("forward").into_iter().zip([[3, 1, 1], [1, 5, 2]]) {
                let what = format!("{} {} on {}", golden.name, case["name"], device.name());
                let inputs = model_inputs(&model.info, golden.inputs(case)).unwrap();
                let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
                let whole = runner.run(&given).unwrap();
                let mask = &inputs["attention_mask"];
                let encoded = steps.encode(&inputs["input_ids"], mask);
                let name = "encoder_last_hidden_state";
                goldens::assert_close(&encoded[name], &whole[name], Some(mask), LIMIT, &what);
                let given = [&inputs["decoder_input_ids"], &inputs["decoder_attention_mask"], mask];
                check_steps(&steps, &lengths, given, &whole["logits"], &what);
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

#[test]
fn greedy_steps_give_the_golden_ids() {
    for device in devices() {
        for golden in FOLDERS.map(Golden::open) {
            let steps =
                Steps::new(&golden.folder, &device, Most { batch: 1, source: 24, context: 25 });
            for case in golden.cases("generate") {
                let what = format!("{} {} on {}", golden.name, case["name"], device.name());
                let prompt = ids(&case["prompt_ids"]);
                let mask = Tensor::u32([1, prompt.len()], vec![1; prompt.len()]).unwrap();
                steps.encode(&Tensor::u32([1, prompt.len()], prompt).unwrap(), &mask);
                let params = &case["params"];
                let wanted = ids(&case["new_ids"]);
                let mut current = ids(&params["decoder_start_token_id"])[0];
                let mut new_ids = Vec::new();
                let mut logits = Vec::new();
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
                assert_eq!(new_ids, wanted, "{what}");
                if !case["logits"].is_null() {
                    let want = golden.tensor(&case["logits"]);
                    let want = want.as_f32().unwrap();
                    close(&logits[..want.len()], want, LIMIT, &format!("{what} logits"));
                }
            }
        }
    }
}
