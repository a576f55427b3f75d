//! A golden folder: a model with PyTorch's numbers for it, and the checks against them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tilewright::Tensor;
use tilewright::engine::{Device, Runner, model_inputs};
use tilewright::models::{self, BuildOptions, Outputs};
use tilewright::weights::SafeTensors;

/// Largest difference allowed, of the largest value in the rows that count.
pub const LIMIT: f64 = 5e-5;

/// Largest absolute difference of a log probability or a loss.
const LOG_PROBABILITY_LIMIT: f64 = 1e-4;

/// A model folder with `golden.json` and `golden.safetensors`.
pub struct Golden {
    pub folder: PathBuf,
    json: Value,
    file: SafeTensors,
}

impl Golden {
    pub fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
        let path = folder.join("golden.json");
        let text = std::fs::read_to_string(&path);
        let text = text.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let json = serde_json::from_str(&text);
        let json = json.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::open(folder.join("golden.safetensors")).unwrap();
        Self { folder, json, file }
    }

    /// The cases of one kind; at least one.
    pub fn cases<'a>(&'a self, kind: &'a str) -> Vec<&'a Value> {
        let all = self.json["cases"].as_array().unwrap();
        let found: Vec<_> = all.iter().filter(|c| c["kind"] == kind).collect();
        assert!(!found.is_empty(), "{}: no {kind} case", self.folder.display());
        found
    }

    /// A case's model inputs, checked and completed.
    pub fn inputs(&self, case: &Value, info: &models::ModelInfo) -> BTreeMap<String, Tensor> {
        let named = case["inputs"].as_object().unwrap().iter();
        let given = named.map(|(name, tensor)| (name.clone(), self.read(tensor))).collect();
        model_inputs(info, given).unwrap()
    }

    /// A tensor of `golden.safetensors`.
    pub fn read(&self, name: &Value) -> Tensor {
        self.file.read(name.as_str().unwrap()).unwrap()
    }

    /// Every output of every forward case, hidden states included, within [`LIMIT`].
    pub fn check_forward(&self, device: &Device) {
        let outputs = Outputs::Class { hidden_states: true };
        let options = BuildOptions { outputs, ..BuildOptions::default() };
        let model = models::open(&self.folder, &options).unwrap();
        let info = model.info.clone();
        let runner = Runner::new(model.graph, device.clone()).unwrap();
        for case in self.cases("forward") {
            let inputs = self.inputs(case, &info);
            let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            let got = runner.run(&given).unwrap();
            let folder = self.folder.file_name().unwrap().display();
            let at = format!("{folder} {} on {}", case["name"], device.name());
            let mut compared = 0;
            for (output, entry) in case["outputs"].as_object().unwrap() {
                compared +=
                    self.check_output(&got, &inputs, output, entry, &format!("{at} {output}"));
            }
            assert!(compared > 0, "{at}: nothing compared");
        }
    }

    /// Compares one output, or a list of them; how many.
    fn check_output(
        &self,
        got: &BTreeMap<String, Tensor>,
        inputs: &BTreeMap<String, Tensor>,
        output: &str,
        entry: &Value,
        what: &str,
    ) -> usize {
        let mask = entry["mask"].as_str().map(|m| &inputs[m]);
        if let Some(tensors) = entry["tensors"].as_array() {
            for (i, tensor) in tensors.iter().enumerate() {
                let state = &got[&format!("{output}.{i}")];
                assert_close(state, &self.read(tensor), mask, LIMIT, &format!("{what} {i}"));
            }
            assert!(!got.contains_key(&format!("{output}.{}", tensors.len())), "{what}");
            return tensors.len();
        }
        let stored = if entry["f64"].is_null() { &entry["tensor"] } else { &entry["f64"] };
        let want = self.read(stored);
        match output {
            // Derived by the golden's author from the last hidden state; `embed` covers it.
            "mean_pooled_l2" => return 0,
            "token_logprobs" | "loss" => {
                let log_probs = log_probabilities(&got["logits"], &inputs["input_ids"]);
                let mean = log_probs.iter().sum::<f64>() / log_probs.len() as f64;
                let got = if output == "loss" { vec![-mean] } else { log_probs };
                let want = want.as_f32().unwrap();
                assert_eq!(got.len(), want.len(), "{what}");
                for (g, w) in got.iter().zip(want) {
                    assert!(
                        (g - f64::from(*w)).abs() <= LOG_PROBABILITY_LIMIT,
                        "{what}: {g}, not {w}"
                    );
                }
            }
            "probs" => {
                let logits = &got["logits"];
                let width = logits.shape().last();
                let rows = logits.as_f32().unwrap().chunks_exact(width).flat_map(softmax);
                let got = Tensor::f32(logits.shape(), rows.collect()).unwrap();
                assert_close(&got, &want, mask, LIMIT, what);
            }
            _ if entry["index"].is_null() => assert_close(&got[output], &want, mask, LIMIT, what),
            _ => {
                let picked = pick(&got[output], &self.read(&entry["index"]));
                assert_close(&picked, &want, None, LIMIT, what);
            }
        }
        1
    }
}

/// Rows of `got` where the mask is 1 against `want`, whose scale is its largest value.
pub fn assert_close(got: &Tensor, want: &Tensor, mask: Option<&Tensor>, limit: f64, what: &str) {
    let (shape, wanted) = (got.shape(), want.shape());
    assert_eq!(shape.numel(), wanted.numel(), "{what}: {shape} {wanted}");
    let width = shape.last();
    let (got, want) = (got.as_f32().unwrap(), want.as_f32().unwrap());
    let mask = mask.map(|m| m.as_u32().unwrap());
    let row_counts = |i: usize| mask.is_none_or(|m| m[i / width] == 1);
    let kept: Vec<_> = (0..got.len()).filter(|&i| row_counts(i)).collect();
    assert!(!kept.is_empty(), "{what}: nothing to compare");
    let scale = kept.iter().map(|&i| f64::from(want[i].abs())).fold(0.0, f64::max);
    for i in kept {
        let error = (f64::from(got[i]) - f64::from(want[i])).abs();
        assert!(error <= limit * scale, "{what}: element {i} is {}, not {}", got[i], want[i]);
    }
}

/// Probabilities of one row of logits.
fn softmax(row: &[f32]) -> Vec<f32> {
    let max = row.iter().copied().fold(f32::MIN, f32::max);
    let terms: Vec<_> = row.iter().map(|&v| f64::from(v - max).exp()).collect();
    let sum: f64 = terms.iter().sum();
    terms.iter().map(|t| (t / sum) as f32).collect()
}

/// `log p(token i + 1 | tokens 0..=i)` of one text.
fn log_probabilities(logits: &Tensor, ids: &Tensor) -> Vec<f64> {
    let rows = logits.as_f32().unwrap().chunks_exact(logits.shape().last());
    let ids = ids.as_u32().unwrap();
    assert_eq!(rows.len(), ids.len(), "one text");
    let log_probability = |(row, &next): (&[f32], &u32)| {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|&v| f64::from(v - max).exp()).sum();
        f64::from(row[next as usize] - max) - sum.ln()
    };
    rows.zip(&ids[1..]).map(log_probability).collect()
}

/// Rows (batch, position) of a [batch, tokens, width] tensor.
fn pick(tensor: &Tensor, index: &Tensor) -> Tensor {
    let [_, tokens, width] = tensor.shape().dims().try_into().unwrap();
    let values = tensor.as_f32().unwrap();
    let pairs = index.as_u32().unwrap().chunks_exact(2);
    let rows: Vec<usize> = pairs.map(|p| p[0] as usize * tokens + p[1] as usize).collect();
    let picked = rows.iter().flat_map(|r| values[r * width..(r + 1) * width].iter().copied());
    Tensor::f32([rows.len(), width], picked.collect()).unwrap()
}
