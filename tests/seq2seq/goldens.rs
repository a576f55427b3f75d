//! What a golden folder holds, read for the tests, and how results are held against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tilewright::Tensor;
use tilewright::weights::SafeTensors;

/// Largest difference allowed, as a share of the largest value that is compared.
pub const LIMIT: f64 = 5e-5;

/// A folder of `tests/goldens`.
pub struct Golden {
    pub name: String,
    pub folder: PathBuf,
    cases: Vec<Value>,
    file: SafeTensors,
}

impl Golden {
    pub fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
        let path = folder.join("golden.json");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let golden: Value = serde_json::from_str(&text).unwrap();
        let cases = golden["cases"].as_array().unwrap().clone();
        let file = SafeTensors::open(folder.join("golden.safetensors")).unwrap();
        Self { name: name.to_owned(), folder, cases, file }
    }

    /// Cases of a kind, of which there must be some.
    pub fn cases(&self, kind: &str) -> Vec<&Value> {
        let cases: Vec<_> = self.cases.iter().filter(|c| c["kind"] == kind).collect();
        assert!(!cases.is_empty(), "{}: no {kind} case", self.name);
        cases
    }

    pub fn tensor(&self, name: &Value) -> Tensor {
        self.file.read(name.as_str().unwrap()).unwrap()
    }

    pub fn inputs(&self, case: &Value) -> BTreeMap<String, Tensor> {
        let inputs = case["inputs"].as_object().unwrap();
        inputs.iter().map(|(input, name)| (input.clone(), self.tensor(name))).collect()
    }

    /// Holds every output of a forward case against `got`; gives how many there were.
    pub fn check(
        &self,
        case: &Value,
        inputs: &BTreeMap<String, Tensor>,
        got: &BTreeMap<String, Tensor>,
        device: &str,
    ) -> usize {
        let mut compared = 0;
        for (output, entry) in case["outputs"].as_object().unwrap() {
            let mask = entry["mask"].as_str().map(|m| &inputs[m]);
            let what = format!("{} {} {output} on {device}", self.name, case["name"]);
            if let Some(tensors) = entry["tensors"].as_array() {
                for (i, name) in tensors.iter().enumerate() {
                    let state = &got[&format!("{output}.{i}")];
                    let what = format!("{what} {i}");
                    assert_close(state, &self.tensor(name), mask, LIMIT, &what);
                    compared += 1;
                }
                continue;
            }
            let stored = if entry["f64"].is_null() { &entry["tensor"] } else { &entry["f64"] };
            let want = self.tensor(stored);
            if entry["index"].is_null() {
                assert_close(&got[output], &want, mask, LIMIT, &what);
            } else {
                let picked = pick(&got[output], &self.tensor(&entry["index"]));
                assert_close(&picked, &want, None, LIMIT, &what);
            }
            compared += 1;
        }
        compared
    }
}

/// Rows (batch, position) of a [batch, tokens, width] tensor.
fn pick(tensor: &Tensor, index: &Tensor) -> Tensor {
    let pairs: Vec<_> = index.as_u32().unwrap().chunks_exact(2).collect();
    let rows: Vec<_> = pairs.iter().map(|p| row(tensor, p[0] as usize, p[1] as usize)).collect();
    Tensor::f32([rows.len(), tensor.shape().last()], rows.concat()).unwrap()
}

/// One row of a [batch, tokens, width] tensor.
pub fn row(tensor: &Tensor, batch: usize, position: usize) -> &[f32] {
    let [_, tokens, width] = tensor.shape().dims().try_into().unwrap();
    let start = (batch * tokens + position) * width;
    &tensor.as_f32().unwrap()[start..start + width]
}

/// Rows of `got` where the mask is 1 against `want`, whose scale is its largest value.
pub fn assert_close(got: &Tensor, want: &Tensor, mask: Option<&Tensor>, limit: f64, what: &str) {
    let shapes = (got.shape(), want.shape());
    assert_eq!(shapes.0.numel(), shapes.1.numel(), "{what}: {} {}", shapes.0, shapes.1);
    let width = got.shape().last();
    let mask = mask.map(|m| m.as_u32().unwrap());
    let counts = |i: &usize| mask.is_none_or(|m| m[i / width] == 1);
    let kept: Vec<_> = (0..got.shape().numel()).filter(counts).collect();
    let values =
        |t: &Tensor| -> Vec<f32> { kept.iter().map(|&i| t.as_f32().unwrap()[i]).collect() };
    close(&values(got), &values(want), limit, what);
}

/// Values against those wanted, whose scale is the largest of them.
pub fn close(got: &[f32], want: &[f32], limit: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    assert!(!want.is_empty(), "{what}: nothing to compare");
    let scale = want.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max);
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*g) - f64::from(*w)).abs();
        assert!(error <= limit * scale, "{what}: element {i} is {g}, not {w}; scale {scale}");
    }
}
