//! Several heads on one trunk: each is its own folder, and the trunk is loaded once.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Value, json};
use tilewright::engine::{Device, Runner, model_inputs};
use tilewright::graph::Size;
use tilewright::models::{self, BuildOptions};
use tilewright::tensor::DType;
use tilewright::{Tensor, weights};

use super::devices;
use crate::draft::Draft;

const WIDTH: usize = 64;
const INNER: usize = 200;
const VOCAB: usize = 150;
const LAYERS: usize = 2;

fn config(class: &str, labels: &[&str]) -> Value {
    let id2label: serde_json::Map<_, _> =
        labels.iter().enumerate().map(|(i, l)| (i.to_string(), json!(l))).collect();
    let labels = if labels.is_empty() { Value::Null } else { id2label.into() };
    json!({
        "model_type": "bert", "architectures": [class], "vocab_size": VOCAB,
        "max_position_embeddings": 40, "hidden_size": WIDTH, "intermediate_size": INNER,
        "num_attention_heads": 4, "num_hidden_layers": LAYERS, "id2label": labels,
    })
}

fn trunk() -> Draft {
    let mut draft = Draft::new(config("BertModel", &[]));
    let part = |name: &str| format!("bert.{name}");
    for (name, rows) in [("word", VOCAB), ("position", 40), ("token_type", 2)] {
        draft.matrix(part(&format!("embeddings.{name}_embeddings.weight")), [rows, WIDTH]);
    }
    draft.norm(&part("embeddings.LayerNorm"), WIDTH, 1.0, true);
    for layer in 0..LAYERS {
        let at = |name: &str| part(&format!("encoder.layer.{layer}.{name}"));
        for name in ["self.query", "self.key", "self.value", "output.dense"] {
            draft.linear(&at(&format!("attention.{name}")), [WIDTH, WIDTH], true);
        }
        draft.norm(&at("attention.output.LayerNorm"), WIDTH, 1.0, true);
        draft.linear(&at("intermediate.dense"), [INNER, WIDTH], true);
        draft.linear(&at("output.dense"), [WIDTH, INNER], true);
        draft.norm(&at("output.LayerNorm"), WIDTH, 1.0, true);
    }
    draft
}

/// Class, labels, and a way to add the head's tensors.
type Head = (&'static str, &'static [&'static str], fn(&mut Draft));

const HEADS: [Head; 4] = [
    ("BertForSequenceClassification", &["bad", "good", "mixed"], |draft| {
        draft.linear("bert.pooler.dense", [WIDTH, WIDTH], true);
        draft.linear("classifier", [3, WIDTH], true);
    }),
    ("BertForTokenClassification", &["O", "B-X", "I-X", "B-Y", "I-Y"], |draft| {
        draft.linear("classifier", [5, WIDTH], true);
    }),
    ("BertForQuestionAnswering", &[], |draft| draft.linear("qa_outputs", [2, WIDTH], true)),
    ("BertForMaskedLM", &[], |draft| {
        draft.linear("cls.predictions.transform.dense", [WIDTH, WIDTH], true);
        draft.norm("cls.predictions.transform.LayerNorm", WIDTH, 1.0, true);
        draft.vector("cls.predictions.bias", VOCAB);
    }),
];

/// Bytes of a folder's tensors.
fn bytes(folder: &std::path::Path) -> u64 {
    weights::Checkpoint::open(folder).unwrap().total_bytes()
}

/// A runner with its weights loaded, and how many bytes that took.
fn loaded(trunk: &PathBuf, head: &PathBuf, device: &Device) -> (Runner, u64) {
    let model = models::open_head(trunk, head, &BuildOptions::default()).unwrap();
    let runner = Runner::new(model.graph, device.clone()).unwrap();
    let mut total = 0;
    let note = &mut |p: tilewright::graph::Progress<'_>| {
        total = p.total;
        ControlFlow::Continue(())
    };
    let sizes = runner.graph().sizes(&[(Size::Batch, 2), (Size::Tokens, 7)]).unwrap();
    runner.reserve(&sizes, note).unwrap();
    (runner, total)
}

#[test]
fn heads_share_a_trunk_and_load_it_once() {
    let trunk_folder = trunk().write(DType::F32, 1);
    let heads: Vec<_> = HEADS
        .iter()
        .map(|(class, labels, add)| {
            let mut draft = Draft::new(config(class, labels));
            add(&mut draft);
            draft.write(DType::F32, 2)
        })
        .collect();
    let ids = Tensor::u32([2, 7], (0..14).map(|i| i * 11 % VOCAB as u32).collect()).unwrap();
    for device in devices() {
        let mut first = true;
        for ((class, labels, add), head) in HEADS.iter().zip(&heads) {
            let (runner, took) = loaded(&trunk_folder.0, &head.0, &device);
            if let Device::Gpu(_) = device {
                let of_trunk = if first { bytes(&trunk_folder.0) } else { 0 };
                assert_eq!(took, of_trunk + bytes(&head.0), "{class}");
                let again = loaded(&trunk_folder.0, &head.0, &device).1;
                assert_eq!(again, 0, "{class} is loaded already");
            }
            first = false;

            // One folder that holds both gives the same.
            let mut whole = trunk();
            add(&mut whole);
            let whole = whole.write(DType::F32, 1);
            std::fs::write(whole.0.join("config.json"), config(class, labels).to_string()).unwrap();
            replace(&whole.0, &head.0);
            let model = models::open(&whole.0, &BuildOptions::default()).unwrap();
            assert_eq!(model.info.labels, *labels);
            let given = [("input_ids".to_owned(), ids.clone())];
            let inputs = model_inputs(&model.info, given.into()).unwrap();
            let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            let want = Runner::new(model.graph, device.clone()).unwrap().run(&given).unwrap();
            assert_eq!(runner.run(&given).unwrap(), want, "{class}");
        }
    }
}

/// Puts one folder's tensors in place of another's of the same names.
fn replace(folder: &std::path::Path, by: &std::path::Path) {
    let [all, some] = [folder, by].map(|f| weights::Checkpoint::open(f).unwrap());
    let names: Vec<String> = all.names().map(str::to_owned).collect();
    let read = |name: &String| {
        let from = if some.names().any(|n| n == name) { &some } else { &all };
        from.read(name).unwrap()
    };
    let tensors: Vec<_> = names.iter().map(|n| (n.as_str(), read(n))).collect();
    weights::write(folder.join("model.safetensors"), &tensors).unwrap();
}

#[test]
fn heads_are_checked() {
    let trunk = trunk().write(DType::F32, 1);
    let error = |class: &str, labels: &[&str], add: fn(&mut Draft)| {
        let mut draft = Draft::new(config(class, labels));
        add(&mut draft);
        let head = draft.write(DType::F32, 2);
        let opened = models::open_head(&trunk.0, &head.0, &BuildOptions::default());
        opened.map(|_| ()).unwrap_err().to_string()
    };
    let (class, _, add) = HEADS[1];
    let why = error(class, &["O", "X"], add);
    assert!(why.contains("classifier.weight") && why.contains("[5, 64]"), "{why}");
    assert!(why.contains("[2, 64]"), "{why}");
    let why = error("BertForQuestionAnswering", &[], add);
    assert!(why.contains("qa_outputs.weight") && why.contains("is not in"), "{why}");
    let why = error("BertForMultipleChoice", &[], add);
    assert!(why.contains("BertForMultipleChoice") && why.contains("*ForTokenClass"), "{why}");
    let none = models::open_head(&trunk.0, trunk.0.join("none"), &BuildOptions::default());
    assert!(none.map(|_| ()).unwrap_err().to_string().contains("config.json"));
}
