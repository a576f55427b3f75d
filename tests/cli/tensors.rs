//! `run` and `op`: tensors in, tensors out, against PyTorch's numbers.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::folder::Folder;
use crate::program::{Done, command, copy_golden, cpu, device, finish, golden};

/// A tensor in a file's own bytes.
#[derive(Clone)]
struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

type Raws = BTreeMap<String, Raw>;
/// Operands by name.
type Given<'a> = Vec<(&'a str, &'a Raw)>;
/// Op, operands, settings, what the error names.
type Call<'a> = (&'a str, &'a [(&'a str, &'a Raw)], &'a [&'a str], &'a [&'a str]);

impl Raw {
    fn i64(shape: &[usize], values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dtype: Dtype::I64, shape: shape.to_vec(), bytes }
    }

    fn integers(&self) -> Vec<i64> {
        assert_eq!(self.dtype, Dtype::I64);
        self.bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
    }

    fn floats(&self) -> Vec<f64> {
        match self.dtype {
            Dtype::F32 => self
                .bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b).into())
                .collect(),
            Dtype::F64 => {
                self.bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
            }
            other => panic!("floats in {other:?}"),
        }
    }

    /// The same whole numbers in another type.
    fn narrowed(&self, dtype: Dtype) -> Self {
        let values = self.integers().into_iter();
        let bytes = match dtype {
            Dtype::I32 => values.flat_map(|v| (v as i32).to_le_bytes()).collect(),
            Dtype::U8 => values.map(|v| v as u8).collect(),
            Dtype::BOOL => values.map(|v| u8::from(v != 0)).collect(),
            _ => values.flat_map(|v| (v as f32).to_le_bytes()).collect(),
        };
        Self { dtype, shape: self.shape.clone(), bytes }
    }
}

fn read(path: impl AsRef<Path>) -> Raws {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let raw = |view: TensorView| Raw {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    file.tensors().into_iter().map(|(name, view)| (name, raw(view))).collect()
}

fn write(path: &Path, tensors: &[(&str, &Raw)]) {
    let views = tensors.iter().map(|(name, raw)| {
        (*name, TensorView::new(raw.dtype, raw.shape.clone(), &raw.bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// One `run` of a model on tensors.
struct Run<'a> {
    folder: Folder,
    model: &'a Path,
    device: &'a str,
}

impl<'a> Run<'a> {
    fn new(model: &'a Path, device: &'a str) -> Self {
        Self { folder: Folder::new(), model, device }
    }

    fn start(&self, inputs: &[(&str, &Raw)], more: &[&str]) -> Done {
        let [input, output] = ["in", "out"].map(|n| self.folder.0.join(n));
        write(&input, inputs);
        let paths = [self.model, &input, &output].map(|p| p.to_str().unwrap());
        let args = ["run", "--device", self.device, "--model", paths[0], "--input", paths[1]];
        finish(command(args.iter().chain(&["--output", paths[2]]).chain(more)))
    }

    fn outputs(&self, inputs: &[(&str, &Raw)], more: &[&str]) -> Raws {
        let out = self.start(inputs, more).ok();
        assert_eq!(out, "", "answers go to the file");
        read(self.folder.0.join("out"))
    }
}

/// Elements where the mask is 1 differ by at most `limit` of the largest.
fn assert_close(got: &Raw, want: &Raw, mask: Option<&[i64]>, limit: f64, what: &str) {
    assert_eq!((got.dtype, &got.shape), (Dtype::F32, &want.shape), "{what}");
    let width = *got.shape.last().unwrap();
    let (got, want) = (got.floats(), want.floats());
    let kept: Vec<_> = (0..got.len()).filter(|i| mask.is_none_or(|m| m[i / width] == 1)).collect();
    let scale = kept.iter().map(|&i| want[i].abs()).fold(0.0, f64::max);
    for i in kept {
        let error = (got[i] - want[i]).abs();
        assert!(error <= limit * scale, "{what}: element {i} is {}, not {}", got[i], want[i]);
    }
}

/// Rows of [batch, tokens, width] at (batch, token) pairs.
fn pick(from: &Raw, places: &[i64]) -> Raw {
    let (tokens, row) = (from.shape[1], from.shape[2] * 4);
    let rows = places.as_chunks::<2>().0.iter().map(|[b, t]| *b as usize * tokens + *t as usize);
    let bytes: Vec<u8> = rows.flat_map(|r| &from.bytes[r * row..(r + 1) * row]).copied().collect();
    Raw { dtype: from.dtype, shape: vec![places.len() / 2, from.shape[2]], bytes }
}

/// Every golden folder that holds a model.
fn golden_models() -> Vec<String> {
    let entries = std::fs::read_dir(golden("")).unwrap().map(|e| e.unwrap().path());
    let models = entries.filter(|path| path.join("golden.json").is_file());
    let mut names: Vec<_> =
        models.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    assert!(names.len() >= 25, "goldens are missing: {names:?}");
    names
}

fn check_golden(name: &str, device: &str) {
    let model = golden(name);
    let text = std::fs::read_to_string(model.join("golden.json")).unwrap();
    let index: Value = serde_json::from_str(&text).unwrap();
    let file = read(model.join("golden.safetensors"));
    let find = |name: &Value| &file[name.as_str().unwrap()];
    let run = Run::new(&model, device);
    let cases = index["cases"].as_array().unwrap().iter().filter(|c| c["kind"] == "forward");
    for (number, case) in cases.enumerate() {
        let given = case["inputs"].as_object().unwrap();
        let mut inputs: Vec<_> = given.iter().map(|(n, t)| (n.as_str(), find(t).clone())).collect();
        if number % 2 == 1 {
            inputs.iter_mut().for_each(|(_, t)| *t = t.narrowed(Dtype::I32));
        }
        let inputs: Vec<_> = inputs.iter().map(|(n, t)| (*n, t)).collect();
        let got = run.outputs(&inputs, &["--hidden-states"]);
        let mut expected = 0;
        for (output, about) in case["outputs"].as_object().unwrap() {
            let mask = about["mask"].as_str().map(|m| find(&given[m]).integers());
            let what = format!("{name} {} {output} on {device}", case["name"]);
            if let Some(states) = about["tensors"].as_array() {
                for (i, state) in states.iter().enumerate() {
                    let got = &got[&format!("{output}.{i}")];
                    assert_close(got, find(state), mask.as_deref(), 5e-5, &format!("{what} {i}"));
                }
                continue;
            }
            // What tasks make of the outputs: no outputs of the model class themselves.
            if ["mean_pooled_l2", "probs", "token_logprobs", "loss"].contains(&output.as_str()) {
                continue;
            }
            let want = find(about.get("f64").unwrap_or(&about["tensor"]));
            match about.get("index") {
                None => assert_close(&got[output], want, mask.as_deref(), 5e-5, &what),
                Some(index) => {
                    let picked = pick(&got[output], &find(index).integers());
                    assert_close(&picked, want, None, 5e-5, &what);
                }
            }
            expected += 1;
        }
        let plain = got.keys().filter(|name| !name.contains("hidden_states.")).count();
        assert_eq!(plain, expected, "outputs {:?}", got.keys());
    }
}

#[test]
fn goldens_hold_through_the_program() {
    let device = device();
    for name in golden_models() {
        check_golden(&name, "cpu");
        check_golden(&name, &device);
    }
}

#[test]
fn every_golden_model_agrees_with_the_cpu_node_by_node() {
    let device = device();
    for name in golden_models() {
        let model = golden(&name);
        let model = model.to_str().unwrap();
        let args = ["verify", "model", "--device", &device, "--json", "--model", model];
        let answer = finish(command(args)).json();
        assert_eq!(answer["passed"], true, "{name}: {answer}");
        assert!(answer["nodes"].as_u64().unwrap() >= 8, "{name}: {answer}");
    }
}

const IDS: [i64; 7] = [2, 50, 222, 38, 287, 203, 3];

#[test]
fn missing_inputs_are_filled_in_and_any_integer_type_is_read() {
    let model = golden("bert_base");
    let run = Run::new(&model, "cpu");
    let ids = Raw::i64(&[1, 7], &IDS);
    let (ones, zeros) = (Raw::i64(&[1, 7], &[1; 7]), Raw::i64(&[1, 7], &[0; 7]));
    let want = run.outputs(
        &[("input_ids", &ids), ("attention_mask", &ones), ("token_type_ids", &zeros)],
        &[],
    );
    assert_eq!(want.keys().collect::<Vec<_>>(), ["last_hidden_state", "pooler_output"]);
    let same = |got: Raws| want.iter().all(|(name, t)| got[name].bytes == t.bytes);
    assert!(same(run.outputs(&[("input_ids", &ids)], &[])));
    assert!(same(run.outputs(&[("input_ids", &ids), ("token_type_ids", &zeros)], &[])));
    for dtype in [Dtype::U8, Dtype::BOOL, Dtype::I32] {
        let mask = ones.narrowed(dtype);
        let got = run.outputs(&[("input_ids", &ids), ("attention_mask", &mask)], &[]);
        assert!(same(got), "{dtype:?}");
    }
    for dtype in ["f16", "bf16"] {
        let got = run.outputs(&[("input_ids", &ids)], &["--dtype", dtype]);
        assert_close(&got["pooler_output"], &want["pooler_output"], None, 3e-2, dtype);
    }
}

#[test]
fn bad_inputs_of_run_are_named() {
    let model = golden("bert_base");
    let run = Run::new(&model, "cpu");
    let ids = Raw::i64(&[1, 7], &IDS);
    let with = |shape: &[usize], value: i64| Raw::i64(shape, &vec![value; shape.iter().product()]);
    let float = ids.narrowed(Dtype::F32);
    let cases: Vec<(Given, &[&str])> = vec![
        (vec![], &["`input_ids`", "missing"]),
        (vec![("input_ids", &float)], &["`input_ids`", "f32", "integers"]),
        (vec![("ids", &ids)], &["`ids`", "input_ids"]),
        (vec![("input_ids", &ids), ("decoder_input_ids", &ids)], &["`decoder_input_ids`"]),
    ];
    for (inputs, wants) in cases {
        run.start(&inputs, &[]).fails(wants);
    }
    let alone: [(Raw, &[&str]); 8] = [
        (with(&[7], 3), &["`input_ids`", "[7]", "[batch, tokens]"]),
        (with(&[1, 1, 7], 3), &["`input_ids`", "[1, 1, 7]"]),
        (with(&[1, 0], 3), &["`input_ids`", "[1, 0]", "at least 1"]),
        (with(&[0, 7], 3), &["`input_ids`", "[0, 7]", "at least 1"]),
        (with(&[1, 81], 3), &["`input_ids`", "81", "at most 80"]),
        (with(&[1, 7], 300), &["`input_ids`", "300", "index 0", "below 300"]),
        (with(&[1, 7], -1), &["`input_ids`", "-1", "index 0"]),
        (with(&[1, 7], i64::MAX), &["`input_ids`", "9223372036854775807"]),
    ];
    for (ids, wants) in &alone {
        run.start(&[("input_ids", ids)], &[]).fails(wants);
    }
    let masks: [(&str, Raw, &[&str]); 5] = [
        ("attention_mask", with(&[1, 6], 1), &["`attention_mask`", "[1, 6]", "[1, 7]"]),
        ("attention_mask", with(&[7, 1], 1), &["`attention_mask`", "[7, 1]"]),
        ("attention_mask", with(&[1, 7], 2), &["`attention_mask`", "value 2", "below 2"]),
        ("token_type_ids", with(&[1, 7], 2), &["`token_type_ids`", "value 2", "below 2"]),
        ("token_type_ids", with(&[2, 7], 0), &["`token_type_ids`", "[2, 7]"]),
    ];
    for (name, mask, wants) in &masks {
        run.start(&[("input_ids", &ids), (name, mask)], &[]).fails(wants);
    }
    assert!(!run.folder.0.join("out").exists(), "no output of a failed run");
    let folder = Folder::new();
    let paths = [&model, &folder.file("empty", ""), &folder.0.join("out")];
    let [model, empty, out] = paths.map(|p| p.to_str().unwrap());
    cpu(["run", "--model", model, "--input", empty, "--output", out]).fails(&[empty, "0 bytes"]);
    cpu(["run", "--model", model, "--input", model, "--output", out]).fails(&[model, "folder"]);
}

#[test]
fn a_fully_masked_row_is_finite_and_disturbs_no_other() {
    let model = golden("bert_base");
    for device in ["cpu", &device()] {
        let run = Run::new(&model, device);
        let alone = Raw::i64(&[1, 7], &IDS);
        let want = run.outputs(&[("input_ids", &alone)], &["--hidden-states"]);
        let ids = Raw::i64(&[2, 7], &[IDS, [9; 7]].concat());
        let mask = Raw::i64(&[2, 7], &[[1; 7], [0; 7]].concat());
        let inputs = [("input_ids", &ids), ("attention_mask", &mask)];
        let got = run.outputs(&inputs, &["--hidden-states"]);
        for (name, got) in &got {
            let values = got.floats();
            assert!(values.iter().all(|v| v.is_finite()), "{name} on {device}");
            let first = Raw {
                dtype: Dtype::F32,
                shape: want[name].shape.clone(),
                bytes: got.bytes[..got.bytes.len() / 2].to_vec(),
            };
            assert_close(&first, &want[name], None, 5e-6, name);
        }
    }
}

#[test]
fn weights_that_are_not_finite_give_a_warning() {
    let folder = Folder::new();
    let model = folder.0.join("model");
    copy_golden("bert_base", &model);
    let path = model.join("model.safetensors");
    let mut weights = read(&path);
    let spoil = |raw: &mut Raw, at: usize, value: f32| {
        raw.bytes[at * 4..at * 4 + 4].copy_from_slice(&value.to_le_bytes());
    };
    let names = ["encoder.layer.1.output.dense.bias", "encoder.layer.0.attention.self.key.weight"];
    spoil(weights.get_mut(names[0]).unwrap(), 5, f32::NAN);
    spoil(weights.get_mut(names[1]).unwrap(), 100, f32::NEG_INFINITY);
    write(&path, &weights.iter().map(|(n, t)| (n.as_str(), t)).collect::<Vec<_>>());
    let warnings = [
        format!("warning: tensor `{}` holds a NaN or infinity, the first at element 100", names[1]),
        format!("warning: tensor `{}` holds a NaN or infinity, the first at element 5", names[0]),
    ];
    let embed = ["embed", "--model", model.to_str().unwrap(), "Rain"];
    for device in ["cpu", &device()] {
        let run = Run::new(&model, device);
        let ids = Raw::i64(&[1, 7], &IDS);
        let done = [
            run.start(&[("input_ids", &ids)], &["--quiet"]),
            finish(command(embed.iter().chain(&["--quiet", "--device", device]))),
        ];
        for done in done {
            assert_eq!(done.err.lines().collect::<Vec<_>>(), warnings, "{device}");
            done.ok();
        }
    }
}

/// Cases of `op` goldens by name; the settings are the golden's own attributes.
const OPS: [&str; 14] = [
    "matmul.02",
    "matmul.04",
    "matmul.17",
    "linear.00",
    "softmax.00",
    "softmax.06",
    "layer_norm.00",
    "sdpa.48",
    "sdpa.51",
    "sdpa.52",
    "sdpa.55",
    "rope.01",
    "rope.06",
    "rope.09",
];

#[test]
fn ops_hold_through_the_program() {
    let text = std::fs::read_to_string(golden("ops").join("ops.json")).unwrap();
    let index: Value = serde_json::from_str(&text).unwrap();
    let file = read(golden("ops").join("ops.safetensors"));
    let cases = index["cases"].as_array().unwrap();
    let folder = Folder::new();
    let [input, output] = ["in", "out"].map(|n| folder.0.join(n));
    let device = device();
    for name in OPS {
        let case = cases.iter().find(|c| c["name"] == name).expect("a golden of this name");
        let given = case["inputs"].as_object().unwrap();
        let inputs: Vec<_> =
            given.iter().map(|(n, t)| (n.as_str(), &file[t.as_str().unwrap()])).collect();
        write(&input, &inputs);
        let mut settings = Vec::new();
        for (key, value) in case["attrs"].as_object().unwrap() {
            if ["axis", "broadcast", "fully_masked_rows", "n"].contains(&key.as_str()) {
                continue;
            }
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            settings.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        let mut want = file[case["outputs"]["y"]["tensor"].as_str().unwrap()].clone();
        // A softmax row masked whole is 0 here, NaN in torch.
        let zeroed = want.floats().into_iter().map(|v| if v.is_nan() { 0.0 } else { v });
        want.bytes = zeroed.flat_map(f64::to_le_bytes).collect();
        want.dtype = Dtype::F64;
        for device in ["cpu", &device] {
            let paths = [&input, &output].map(|p| p.to_str().unwrap());
            let op = case["op"].as_str().unwrap();
            let args = ["op", op, "--device", device, "--input", paths[0], "--output", paths[1]];
            let done = finish(command(args.iter().copied().chain(settings.iter().map(|s| &**s))));
            assert_eq!(done.ok(), "");
            let got = &read(&output)["y"];
            assert_close(got, &want, None, 2e-5, &format!("{name} on {device}"));
        }
    }
}

#[test]
fn bad_calls_of_op_are_named() {
    let folder = Folder::new();
    let [input, output] = ["in", "out"].map(|n| folder.0.join(n).to_str().unwrap().to_owned());
    let float =
        |shape: &[usize]| Raw::i64(shape, &vec![1; shape.iter().product()]).narrowed(Dtype::F32);
    let (x, empty, w) = (float(&[2, 3]), float(&[0, 3]), float(&[3, 4]));
    let cases: [Call; 13] = [
        ("frob", &[("x", &x)], &[], &["frob", "softmax"]),
        ("softmax", &[("z", &x)], &[], &["softmax", "`x`", "z"]),
        ("softmax", &[("x", &x), ("z", &x)], &[], &["softmax", "`z`"]),
        ("softmax", &[("x", &x)], &["axis"], &["--set axis", "KEY=VALUE"]),
        ("softmax", &[("x", &x)], &["axis=sideways"], &["softmax", "axis=sideways"]),
        ("softmax", &[("x", &x)], &["axis=0"], &["softmax", "axis"]),
        ("softmax", &[("x", &x)], &["speed=9"], &["softmax", "`speed`"]),
        ("softmax", &[("x", &x)], &["=9"], &["--set =9", "KEY=VALUE"]),
        ("softmax", &[("x", &x)], &["axis=-1", "axis=0"], &["--set axis=0", "twice"]),
        ("matmul", &[("x", &x), ("w", &x)], &["layout=NN"], &["matmul", "[2, 3]"]),
        ("matmul", &[("x", &x), ("q", &w)], &[], &["`weight` is missing", "given are [q, x]"]),
        ("matmul", &[("x", &x), ("w", &w)], &["layout=QQ"], &["matmul", "layout=QQ"]),
        ("layer_norm", &[("x", &x)], &["eps=NaN"], &["layer_norm", "eps"]),
    ];
    for (op, inputs, settings, wants) in cases {
        write(Path::new(&input), inputs);
        let args = ["op", op, "--input", &input, "--output", &output].into_iter();
        let args = args.chain(settings.iter().flat_map(|s| ["--set", s]));
        cpu(args).fails(wants);
    }
    write(Path::new(&input), &[("x", &empty)]);
    let args = ["op", "softmax", "--input", &input, "--output", &output];
    let device = device();
    for device in ["cpu", &device] {
        // An empty tensor is either empty again or refused; it must not panic.
        let done = finish(command(args.iter().chain(&["--device", device])));
        assert!(!done.err.contains("panicked"), "{done:?}");
    }
    write(Path::new(&input), &[("x", &x)]);
    let variant = ["--device", &device, "--variant", "softmax_magic"];
    finish(command(args.iter().chain(&variant))).fails(&["softmax", "softmax_magic"]);
    cpu(args.iter().chain(&["--variant", "softmax_magic"])).fails(&["--variant", "cpu"]);
}
