//! Decoder-only models against PyTorch's numbers, in whole passes and step by step, on the
//! device and on the CPU; and models of random shapes, the one against the other.

mod random;
mod steps;

use std::path::Path;

use serde_json::Value;
use tilewright::engine::{Device, Runner};
use tilewright::models::{self, BuildOptions, Class, Kind};
use tilewright::tensor::DType;

use crate::common;
use crate::golden::{self, Golden, LIMIT};
use steps::{Steps, left_padded};

fn devices() -> [Device; 2] {
    [Device::gpu(&common::shared()), Device::cpu()]
}

fn check(folder: &str) {
    let golden = Golden::open(folder);
    let info = models::open(&golden.folder, &BuildOptions::default()).unwrap().info;
    assert_eq!(info.kind, Kind::Decoder);
    for device in devices() {
        golden.check_forward(&device);
        if info.class == Class::CausalLm {
            check_decoding(&golden, &device);
        }
    }
}

/// A field of a case that holds ids.
fn ids<T: serde::de::DeserializeOwned>(case: &Value, field: &str) -> T {
    serde_json::from_value(case[field].clone()).unwrap()
}

fn check_decoding(golden: &Golden, device: &Device) {
    let generate = golden.cases("generate");
    let forward = golden.cases("forward");
    let batch = *forward.iter().find(|c| c["ids"].as_array().unwrap().len() > 1).expect("a batch");
    let length = |case: &Value, field: &str| ids::<Vec<u32>>(case, field).len();
    let whole = ids::<Vec<Vec<u32>>>(batch, "ids").iter().map(Vec::len).max().unwrap();
    let prompt = generate.iter().map(|c| length(c, "prompt_ids")).max().unwrap();
    let new = generate.iter().map(|c| length(c, "new_ids")).max().unwrap();
    let context = (whole + 3).max(prompt + new);
    let mut steps = Steps::new(&golden.folder, device, [3, whole.max(prompt), context]);
    check_steps(golden, device, batch, &mut steps);
    check_greedy(golden, device, &generate, &mut steps);
}

/// Every way to cut the batch case's tokens into steps gives the whole pass's logits.
fn check_steps(golden: &Golden, device: &Device, case: &Value, steps: &mut Steps) {
    let model = models::open(&golden.folder, &BuildOptions::default()).unwrap();
    let inputs = golden.inputs(case, &model.info);
    let runner = Runner::new(model.graph, device.clone()).unwrap();
    let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let whole = &runner.run(&given).unwrap()["logits"];
    let texts: Vec<Vec<u32>> = ids(case, "ids");
    let n = whole.shape().dims()[1];
    let what = format!("{} on {}", golden.folder.file_name().unwrap().display(), device.name());
    for lengths in [vec![n], vec![n - 4, 1, 1, 1, 1], vec![1, 5, 7, n - 13]] {
        steps.check(&texts, whole, &lengths, LIMIT, &what);
    }
}

/// The golden's greedy texts, one by one and as one batch.
fn check_greedy(golden: &Golden, device: &Device, cases: &[&Value], steps: &mut Steps) {
    let mut groups: Vec<Vec<&Value>> = cases.iter().map(|case| vec![*case]).collect();
    for batch in golden.cases("generate_batch") {
        let named = |name: &Value| *cases.iter().find(|c| c["name"] == *name).unwrap();
        groups.push(batch["rows"].as_array().unwrap().iter().map(named).collect());
    }
    for group in groups {
        let prompts: Vec<Vec<u32>> = group.iter().map(|c| ids(c, "prompt_ids")).collect();
        let want: Vec<Vec<u32>> = group.iter().map(|c| ids(c, "new_ids")).collect();
        let most = want.iter().map(Vec::len).max().unwrap();
        let (pads, rows) = left_padded(&prompts);
        steps.start(&pads, rows[0].len() + most);
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let (_, mut next) = steps.step(&rows);
        let mut got = vec![Vec::new(); group.len()];
        for _ in 0..most {
            got.iter_mut().zip(&next).for_each(|(row, id)| row.push(*id));
            let ids: Vec<&[u32]> = next.chunks(1).collect();
            next = steps.step(&ids).1;
        }
        for ((got, want), case) in got.iter().zip(&want).zip(&group) {
            let folder = golden.folder.file_name().unwrap().display();
            let of = format!("{} of {} on {}", case["name"], group.len(), device.name());
            assert_eq!(&got[..want.len()], want, "{folder} {of}");
        }
    }
}

/// The folders of `tests/goldens_decoders` whose names begin with `family`, at least `count`.
fn check_more(family: &str, count: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens_decoders");
    let all = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = all.collect();
    all.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(family));
    all.sort();
    assert!(all.len() >= count, "{all:?}");
    for path in all {
        let path = path.to_str().unwrap();
        // The neighbour's model in another layout of the configuration, which is all to test.
        match path.ends_with("_older") {
            true => Golden::open(path).check_forward(&Device::cpu()),
            false => check(path),
        }
    }
}

#[test]
fn gpt2() {
    check("gpt2");
    check("gpt2_hubnames");
    check_more("gpt2", 3);
}

#[test]
fn llama() {
    check("llama_gqa");
    check("llama3_rope_tied");
    check_more("llama", 3);
}

#[test]
fn mistral() {
    check("mistral");
    check_more("mistral", 1);
}

#[test]
fn qwen() {
    check("qwen2");
    check("qwen3");
    check_more("qwen", 3);
}

#[test]
fn opt() {
    check("opt");
    check_more("opt", 3);
}

#[test]
fn gpt_neox() {
    check("gpt_neox");
    check_more("gpt_neox", 2);
}

/// Halves keep 11 bits of a key or value: the logits move a little, and only a little.
#[test]
fn caches_may_be_f16() {
    let golden = Golden::open("llama_gqa");
    let texts = [vec![5, 9, 2, 40, 17, 33, 8, 12, 3], vec![21, 7, 7, 30, 11]];
    let (pads, rows) = left_padded(&texts);
    for device in devices() {
        let mut runs = [DType::F32, DType::F16].map(|cache| {
            let mut steps = Steps::keeping(&golden.folder, &device, [2, 6, 12], cache);
            steps.start(&pads, 12);
            let cut = |part: std::ops::Range<usize>| -> Vec<&[u32]> {
                rows.iter().map(|row| &row[part.clone()]).collect()
            };
            steps.step(&cut(0..6));
            steps.step(&cut(6..8));
            let (logits, _) = steps.step(&cut(8..9));
            (logits, steps.cache_bytes())
        });
        let [(want, full), (got, half)] = &mut runs;
        golden::assert_close(got, want, None, 5e-3, device.name());
        assert_ne!(got, want, "{}: f16 caches change nothing", device.name());
        if let (Some(full), Some(half)) = (full, half) {
            assert_eq!(2 * *half, *full);
        }
    }
}

#[test]
fn gemma() {
    check("gemma2");
    check("gemma3");
    check_more("gemma", 5);
}

#[test]
fn small_changes_of_llama() {
    for family in ["granite", "olmo2", "phi3", "smollm3", "starcoder2", "bigcode"] {
        check_more(family, 1);
    }
}
