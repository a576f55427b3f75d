//! Encoders against PyTorch's numbers, on the device and on the CPU: every family, every class,
//! hidden states layer by layer.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/draft.rs"]
mod draft;
#[path = "../common/golden.rs"]
mod golden;
mod heads;
mod random;
mod tasks;

use std::path::Path;

use golden::Golden;
use tilewright::gpu::GpuOptions;
use tilewright::models::Device;

fn devices() -> [Device; 2] {
    [Device::gpu(&common::open(GpuOptions::default())), Device::cpu()]
}

/// Encoders of `tests/goldens`, next to `bert_base`, which embeds.
const FOLDERS: [&str; 7] = [
    "bert_cls",
    "bert_mlm",
    "bert_mlm_gammabeta",
    "bert_ner",
    "bert_qa",
    "distilbert_cls",
    "roberta_mlm",
];

#[test]
fn encoders_match_pytorch() {
    for device in devices() {
        for name in FOLDERS {
            Golden::open(name).check_forward(&device);
        }
    }
}

#[test]
fn other_families_and_classes_match_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens_encoders");
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut names: Vec<_> = entries.filter(|p| p.is_dir()).collect();
    names.sort();
    assert!(names.len() >= 19, "{names:?}");
    for device in devices() {
        for path in &names {
            Golden::open(path.to_str().unwrap()).check_forward(&device);
        }
    }
}
