//! Attention against the golden cases made with PyTorch in float64, and T5's buckets against
//! transformers.

mod common;

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tilewright::gpu::{Gpu, GpuOptions};
use tilewright::ops::{Request, RunOptions, find, relative_bucket, relative_buckets, run, run_cpu};
use tilewright::tensor::{Shape, Sizes, Tensor};

struct Goldens {
    index: Value,
    data: Vec<u8>,
}

impl Goldens {
    fn open() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/ops");
        let text = std::fs::read_to_string(folder.join("ops.json")).unwrap();
        let data = std::fs::read(folder.join("ops.safetensors")).unwrap();
        Self { index: serde_json::from_str(&text).unwrap(), data }
    }

    fn cases(&self, op: &str) -> Vec<&Value> {
        let all = self.index["cases"].as_array().unwrap().iter();
        all.filter(|case| case["op"] == op).collect()
    }

    /// Values and shape of a tensor of any number type.
    fn values(&self, name: &Value) -> (Vec<usize>, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.data).unwrap();
        let view = file.tensor(name.as_str().unwrap()).unwrap();
        let bytes = view.data();
        let values = match view.dtype() {
            Dtype::F32 => {
                bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
            }
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::I64 => {
                bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
            }
            other => panic!("{name}: {other:?}"),
        };
        (view.shape().to_vec(), values)
    }

    fn request(&self, case: &Value) -> Request {
        let mut request = Request::new("sdpa");
        for (key, value) in case["attrs"].as_object().unwrap() {
            // A note about the mask, not a setting.
            if key != "fully_masked_rows" {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                request = request.setting(key, text);
            }
        }
        for (name, tensor) in case["inputs"].as_object().unwrap() {
            let (shape, values) = self.values(tensor);
            let shape = Shape::new(&shape).unwrap();
            let tensor = if name == "key_mask" {
                Tensor::u32(shape, values.iter().map(|&v| v as u32).collect())
            } else {
                Tensor::f32(shape, values.iter().map(|&v| v as f32).collect())
            };
            request = request.tensor(name, tensor.unwrap());
        }
        request
    }
}

/// Runs every case on the CPU route (`None`) or on every variant, and checks NMSE and elements.
fn every_case(gpu: Option<&Gpu>) {
    let goldens = Goldens::open();
    let entry = find("sdpa").unwrap();
    let cases = goldens.cases("sdpa");
    assert_eq!(cases.len(), 56);
    for case in cases {
        let name = &case["name"];
        let mut request = goldens.request(case);
        let (op, inputs) = (entry.build)(&mut request).unwrap();
        request.finish().unwrap();
        let sizes = Sizes::default();
        let results: Vec<_> = match gpu {
            None => vec![("cpu", run_cpu(&*op, &inputs, &sizes).unwrap())],
            Some(gpu) => {
                let usable = entry.kernels.iter().filter(|k| k.needs.missing(gpu.caps()).is_none());
                let run_one = |kernel: &'static str| {
                    let options = RunOptions { kernel: Some(kernel), ..RunOptions::default() };
                    (kernel, run(gpu, &*op, &inputs, &sizes, options).unwrap())
                };
                usable.map(|kernel| run_one(kernel.name)).collect()
            }
        };
        let (shape, want) = goldens.values(&case["outputs"]["y"]["tensor"]);
        for (kernel, got) in results {
            assert_eq!(got[0].shape().dims(), shape, "{name} on {kernel}");
            let got = got[0].as_f32().unwrap();
            let (mut error, mut size) = (0.0, 0.0);
            for (i, (&got, want)) in got.iter().zip(&want).enumerate() {
                let difference = (f64::from(got) - want).abs();
                // Scores of several hundred are rounded by 3e-5 each.
                assert!(difference <= 5e-4, "{name} on {kernel}: [{i}] {got}, not {want}");
                error += difference * difference;
                size += want * want;
            }
            let bound = if name == "sdpa.55" { 1e-8 } else { 1e-10 };
            assert!(error <= bound * size, "{name} on {kernel}: NMSE {:e}", error / size);
        }
    }
}

#[test]
fn goldens_on_the_device_with_checks_on() {
    every_case(Some(&common::checked()));
}

#[test]
fn goldens_on_the_device_as_shipped() {
    every_case(Some(&common::open(GpuOptions::default())));
}

#[test]
fn goldens_on_the_cpu_route() {
    every_case(None);
}

#[test]
fn t5_buckets_are_those_of_transformers() {
    let goldens = Goldens::open();
    let cases = goldens.cases("t5_bucket");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let attrs = &case["attrs"];
        let bidirectional = attrs["bidirectional"].as_bool().unwrap();
        let buckets = attrs["num_buckets"].as_u64().unwrap() as usize;
        let reach = attrs["max_distance"].as_u64().unwrap() as usize;
        let table = relative_buckets(bidirectional, buckets, reach);
        let (_, distances) = goldens.values(&case["inputs"]["relative_position"]);
        let (_, want) = goldens.values(&case["outputs"]["bucket"]["tensor"]);
        for (distance, want) in distances.iter().map(|&d| d as i64).zip(want) {
            let got = relative_bucket(distance, bidirectional, buckets, reach);
            assert_eq!(got as f64, want, "{} at {distance}", case["name"]);
            let entry = distance.clamp(-(reach as i64), reach as i64) + reach as i64;
            assert_eq!(f64::from(table[entry as usize]), want, "{} table", case["name"]);
        }
    }
}
