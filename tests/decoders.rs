//! Decoder-only models against PyTorch's numbers, in whole passes and step by step, on the
//! device and on the CPU.

mod common;
#[path = "common/golden.rs"]
mod golden;
#[path = "common/stepper.rs"]
mod stepper;

use golden::{Golden, LIMIT, assert_close};
use serde_json::Value;
use stepper::Stepper;
use tilewright::Tensor;
use tilewright::gpu::GpuOptions;
use tilewright::models::{self, BuildOptions, Device, Runner};

fn devices() -> [Device; 2] {
    [Device::gpu(&common::open(GpuOptions::default())), Device::cpu()]
}

fn check(folder: &str) {
    let golden = Golden::open(folder);
    for device in devices() {
        golden.check_forward(&device);
        check_steps(&golden, &device);
        check_greedy(&golden, &device);
    }
}

fn ids(case: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(case["ids"].clone()).unwrap()
}

/// The rows of a batch, each padded on the left to the longest one's length.
fn left_padded(rows: &[Vec<u32>]) -> (Vec<usize>, Vec<Vec<u32>>) {
    let longest = rows.iter().map(Vec::len).max().unwrap();
    let pads: Vec<usize> = rows.iter().map(|row| longest - row.len()).collect();
    let padded = rows.iter().zip(&pads).map(|(row, &pad)| [vec![0; pad], row.clone()].concat());
    (pads.clone(), padded.collect())
}

/// Every way to cut the batch case's tokens into steps gives the whole pass's logits.
fn check_steps(golden: &Golden, device: &Device) {
    let model = models::open(&golden.folder, &BuildOptions::default()).unwrap();
    let info = model.info.clone();
    let runner = Runner::new(model.graph, device.clone()).unwrap();
    let cases = golden.cases("forward");
    let case = cases.iter().find(|c| ids(c).len() > 1).expect("a batch");
    let inputs = golden.inputs(case, &info);
    let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let whole = runner.run(&given).unwrap().remove("logits").unwrap();
    let [batch, longest, vocab] = whole.shape().dims().try_into().unwrap();
    let (pads, rows) = left_padded(&ids(case));
    // Caches with room to spare: what lies behind the last token must not count.
    let mut stepper = Stepper::new(&golden.folder, device, [batch, longest, longest + 3]);
    let cuts: [&[usize]; 3] = [&[longest], &[longest - 4, 1, 1, 1, 1], &[1, 5, 7, longest - 13]];
    for cut in cuts {
        stepper.start(&pads);
        let mut end = 0;
        for &count in cut {
            let tokens: Vec<&[u32]> = rows.iter().map(|row| &row[end..end + count]).collect();
            end += count;
            let (logits, _) = stepper.step(&tokens);
            for (b, &pad) in pads.iter().enumerate().filter(|(_, pad)| **pad < end) {
                let row = |tensor: &Tensor, i: usize| {
                    let values = tensor.as_f32().unwrap()[i * vocab..(i + 1) * vocab].to_vec();
                    Tensor::f32([vocab], values).unwrap()
                };
                let want = row(&whole, b * longest + end - 1 - pad);
                let folder = golden.folder.file_name().unwrap().display();
                let what = format!("{folder} on {}: row {b}, {cut:?} at {end}", device.name());
                assert_close(&row(&logits, b), &want, None, LIMIT, &what);
            }
        }
    }
}

/// The golden's greedy texts, one by one and as one batch.
fn check_greedy(golden: &Golden, device: &Device) {
    let cases = golden.cases("generate");
    let tokens = |case: &Value, field: &str| -> Vec<u32> {
        serde_json::from_value(case[field].clone()).unwrap()
    };
    let mut groups: Vec<Vec<&Value>> = cases.iter().map(|case| vec![*case]).collect();
    for batch in golden.cases("generate_batch") {
        let named = |name: &Value| *cases.iter().find(|c| c["name"] == *name).unwrap();
        groups.push(batch["rows"].as_array().unwrap().iter().map(named).collect());
    }
    let lengths = cases.iter().map(|c| [tokens(c, "prompt_ids").len(), tokens(c, "new_ids").len()]);
    let [longest, most] = lengths.reduce(|a, b| [a[0].max(b[0]), a[1].max(b[1])]).unwrap();
    for size in [1, groups.last().unwrap().len()] {
        let mut stepper = Stepper::new(&golden.folder, device, [size, longest, longest + most]);
        for group in groups.iter().filter(|g| g.len() == size) {
            let prompts: Vec<_> = group.iter().map(|c| tokens(c, "prompt_ids")).collect();
            let want: Vec<_> = group.iter().map(|c| tokens(c, "new_ids")).collect();
            let (pads, rows) = left_padded(&prompts);
            stepper.start(&pads);
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let (_, mut next) = stepper.step(&rows);
            let mut got = vec![Vec::new(); size];
            for _ in 0..want.iter().map(Vec::len).max().unwrap() {
                got.iter_mut().zip(&next).for_each(|(row, id)| row.push(*id));
                let ids: Vec<&[u32]> = next.chunks(1).collect();
                next = stepper.step(&ids).1;
            }
            for ((got, want), case) in got.iter().zip(&want).zip(group) {
                let folder = golden.folder.file_name().unwrap().display();
                let what = format!("{folder} {} of {size} on {}", case["name"], device.name());
                assert_eq!(&got[..want.len()], want, "{what}");
            }
        }
    }
}

#[test]
fn gpt2() {
    check("gpt2");
    check("gpt2_hubnames");
}

#[test]
fn llama() {
    check("llama_gqa");
    check("llama3_rope_tied");
}

#[test]
fn mistral() {
    check("mistral");
}

#[test]
fn qwen() {
    check("qwen2");
    check("qwen3");
}

#[test]
fn opt() {
    check("opt");
}

#[test]
fn gpt_neox() {
    check("gpt_neox");
}

#[test]
fn gemma() {
    check("gemma2");
    check("gemma3");
}
