//! Encoders against PyTorch's numbers, on the device and on the CPU: every family, every class,
//! hidden states layer by layer.

mod heads;
mod random;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tilewright::Tensor;
use tilewright::engine::{self, Device, Runner};
use tilewright::models::{self, BuildOptions, Class, Kind, ModelInfo, Outputs, POSITIONS};
use tilewright::weights::Pooling;

use crate::common;
use crate::golden::{Golden, LIMIT, assert_close};

fn devices() -> [Device; 2] {
    [Device::gpu(&common::shared()), Device::cpu()]
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
    assert!(names.len() >= 21, "{names:?}");
    for device in devices() {
        for path in &names {
            Golden::open(path.to_str().unwrap()).check_forward(&device);
        }
    }
}

/// What a model built for `outputs` gives for a case's inputs, those among them that it takes.
fn run(
    golden: &Golden,
    case: &Value,
    outputs: Outputs,
    device: &Device,
    more: &[(&str, Tensor)],
) -> (ModelInfo, BTreeMap<String, Tensor>) {
    let options = BuildOptions { outputs, ..BuildOptions::default() };
    let model = models::open(&golden.folder, &options).unwrap();
    let inputs = case["inputs"].as_object().unwrap().iter();
    let inputs = inputs.filter(|(name, _)| !name.starts_with("decoder_"));
    let inputs: BTreeMap<_, _> = inputs.map(|(n, t)| (n.clone(), golden.read(t))).collect();
    let mut inputs = engine::model_inputs(&model.info, inputs).unwrap();
    inputs.extend(more.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())));
    let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let got = Runner::new(model.graph, device.clone()).unwrap().run(&given).unwrap();
    (model.info, got)
}

#[test]
fn the_encoder_of_an_encoder_decoder_embeds() {
    let outputs = Outputs::Embedding { pooling: Pooling::Mean, normalize: false };
    for device in devices() {
        for name in ["t5", "bart", "bert2bert", "vaswani2017", "../goldens_encoders/t5_encoder"] {
            let golden = Golden::open(name);
            let case = golden.cases("forward")[0];
            let (info, got) = run(&golden, case, outputs, &device, &[]);
            assert_eq!((info.kind, info.class), (Kind::Encoder, Class::Encoder), "{name}");
            let alone = &case["outputs"]["last_hidden_state"];
            let states =
                if alone.is_null() { &case["outputs"]["encoder_last_hidden_state"] } else { alone };
            let states = golden.read(&states["tensor"]);
            let mask = golden.read(&case["inputs"]["attention_mask"]);
            let (width, states) = (states.shape().last(), states.as_f32().unwrap());
            let mut want = Vec::new();
            let tokens = mask.shape().last();
            for (row, mask) in mask.as_u32().unwrap().chunks_exact(tokens).enumerate() {
                let real: Vec<_> = (0..tokens).filter(|&t| mask[t] == 1).collect();
                let sum = |c: usize| {
                    real.iter().map(|t| states[(row * tokens + t) * width + c]).sum::<f32>()
                };
                want.extend((0..width).map(|c| sum(c) / real.len() as f32));
            }
            let want = Tensor::f32([want.len() / width, width], want).unwrap();
            assert_close(&got["embedding"], &want, None, LIMIT, name);
        }
    }
}

#[test]
fn a_model_of_both_of_berts_objectives_fills_masks() {
    let golden = Golden::open("../goldens_encoders/bert_pretraining");
    let case = golden.cases("forward")[0];
    let all = golden.read(&case["outputs"]["prediction_logits"]["tensor"]);
    let &[batch, tokens, vocab] = all.shape().dims() else { panic!("{}", all.shape()) };
    let picks = Tensor::u32([batch, 1], vec![0; batch]).unwrap();
    for device in devices() {
        let more = [(POSITIONS, picks.clone())];
        let (info, got) = run(&golden, case, Outputs::MaskedTokens, &device, &more);
        assert_eq!(info.class, Class::MaskedLm);
        let rows = all.as_f32().unwrap().chunks_exact(tokens * vocab);
        let first: Vec<_> = rows.flat_map(|row| row[..vocab].to_vec()).collect();
        let want = Tensor::f32([batch, vocab], first).unwrap();
        assert_close(&got["logits"], &want, None, LIMIT, device.name());
    }
}
