//! One interface over GPU and CPU: the same code drives both, and both answer alike.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tilewright::Tensor;
use tilewright::engine::{Capacity, Device, Generator, Runner};
use tilewright::graph::{Executor, Graph, Progress, SessionOptions, Size, fuse};
use tilewright::models::{self, BuildOptions, NEXT_TOKEN, Outputs, SAMPLING};
use tilewright::ops::{Activate, Activation, Add, Sampling};
use tilewright::tensor::{Dim, Sizes, SymMeta};

use crate::common;

const PROMPTS: [[u32; 3]; 2] = [[5, 9, 2], [7, 7, 30]];
const NEW: usize = 6;
const CONTEXT: usize = PROMPTS[0].len() + NEW;

fn devices() -> [Device; 2] {
    [Device::gpu(&common::shared()), Device::cpu()]
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

fn session(device: &Device, graph: &Arc<Graph>, capacity: Sizes) -> Arc<dyn Executor> {
    let options = SessionOptions { keep_all: true, ..SessionOptions::default() };
    let go_on = &mut |_: Progress<'_>| ControlFlow::Continue(());
    device.session(graph, capacity, &options, go_on).unwrap()
}

/// A decoding step of a small GPT-2, and its sizes for so many tokens behind others.
fn decoder(device: &Device) -> (Arc<dyn Executor>, impl Fn(usize, usize) -> Sizes) {
    let options = BuildOptions {
        outputs: Outputs::Decode,
        max_tokens: Some(CONTEXT),
        ..BuildOptions::default()
    };
    let model = models::open(golden("gpt2"), &options).unwrap();
    let graph = Arc::new(fuse(model.graph, &[]).unwrap());
    let of = Arc::clone(&graph);
    let sizes = move |tokens, past| {
        let batch = (Size::Batch, PROMPTS.len());
        let rest = [(Size::Tokens, tokens), (Size::Past, past), (Size::Context, CONTEXT)];
        of.sizes(&[&[batch], rest.as_slice()].concat()).unwrap()
    };
    (session(device, &graph, sizes(PROMPTS[0].len(), CONTEXT)), sizes)
}

/// Inputs of the first step, both prompts at once.
fn first() -> [(&'static str, Tensor); 4] {
    let batch = PROMPTS.len();
    let ids = Tensor::u32([batch, PROMPTS[0].len()], PROMPTS.concat()).unwrap();
    let mask = Tensor::u32([batch, CONTEXT], vec![1; batch * CONTEXT]).unwrap();
    let pads = Tensor::u32([batch], vec![0; batch]).unwrap();
    let sampling = Sampling::GREEDY.settings().unwrap();
    [("input_ids", ids), ("attention_mask", mask), ("pads", pads), (SAMPLING, sampling)]
}

fn borrowed<'a>(inputs: &'a [(&'static str, Tensor)]) -> Vec<(&'a str, &'a Tensor)> {
    inputs.iter().map(|(name, tensor)| (*name, tensor)).collect()
}

/// Greedy ids, each step's carried over to the next where it runs.
fn ahead(session: Arc<dyn Executor>, sizes: &dyn Fn(usize, usize) -> Sizes) -> Vec<Vec<u32>> {
    let prompt = PROMPTS[0].len();
    let mut ahead = Arc::clone(&session).ahead(NEXT_TOKEN, "input_ids", 3).unwrap();
    let mut next = sizes(prompt, 0);
    session.write(&borrowed(&first()), &next).unwrap();
    let (mut submitted, mut all) = (0, Vec::new());
    while all.len() < NEW {
        if submitted < NEW && !ahead.is_full() {
            ahead.submit(&next).unwrap();
            next = sizes(1, prompt + submitted);
            submitted += 1;
        } else {
            all.push(ahead.take(&next).unwrap().expect("a step on its way"));
        }
    }
    assert_eq!(ahead.take(&next).unwrap(), None);
    all
}

/// Greedy ids, each step's brought back and given to the next.
fn in_turn(session: &dyn Executor, sizes: &dyn Fn(usize, usize) -> Sizes) -> Vec<Vec<u32>> {
    let prompt = PROMPTS[0].len();
    let step = |inputs: &[(&str, &Tensor)], sizes| {
        let mut outputs = session.step(inputs, &sizes, Some(&[NEXT_TOKEN])).unwrap();
        assert_eq!(outputs.len(), 1, "only what is wanted is given");
        outputs.remove(NEXT_TOKEN).unwrap().as_u32().unwrap().to_vec()
    };
    let mut all = vec![step(&borrowed(&first()), sizes(prompt, 0))];
    while all.len() < NEW {
        let ids = Tensor::u32([PROMPTS.len(), 1], all[all.len() - 1].clone()).unwrap();
        all.push(step(&[("input_ids", &ids)], sizes(1, prompt + all.len() - 1)));
    }
    all
}

#[test]
fn one_code_decodes_the_same_ids_on_both() {
    let decoded = devices().map(|device| {
        let (session, sizes) = decoder(&device);
        let one_by_one = in_turn(session.as_ref(), &sizes);
        assert_eq!(ahead(session, &sizes), one_by_one, "{}", device.name());
        one_by_one
    });
    assert_eq!(decoded[0], decoded[1]);
}

#[test]
fn both_permute_rows_alike_and_refuse_a_row_that_is_not_there() {
    let logits = devices().map(|device| {
        let (session, sizes) = decoder(&device);
        let prompt = PROMPTS[0].len();
        session.step(&borrowed(&first()), &sizes(prompt, 0), Some(&[])).unwrap();
        let error = session.permute(&[0, 2], &sizes(1, prompt)).unwrap_err().to_string();
        assert!(error.ends_with("has 2 rows, row 2 is wanted"), "{}: {error}", device.name());
        session.permute(&[1, 1], &sizes(1, prompt)).unwrap();
        let ids = Tensor::u32([2, 1], vec![4, 4]).unwrap();
        let step = session.step(&[("input_ids", &ids)], &sizes(1, prompt), Some(&["logits"]));
        let logits = step.unwrap().remove("logits").unwrap().as_f32().unwrap().to_vec();
        let (a, b) = logits.split_at(logits.len() / 2);
        assert!(a == b, "{}: both rows go on from row 1", device.name());
        logits
    });
    for (i, (gpu, cpu)) in logits[0].iter().zip(&logits[1]).enumerate() {
        assert!((gpu - cpu).abs() <= 1e-4, "logit {i}: {gpu}, {cpu} on the CPU");
    }
}

/// `y = relu(x + bias)` of x f32 [rows, 3], under a size of its own.
fn own_graph() -> Arc<Graph> {
    let mut graph = Graph::new();
    let rows = graph.symbol("rows").unwrap();
    let meta = SymMeta::f32([Dim::Sym(rows), Dim::Const(3)]);
    let (x, bias) = (graph.input("x", meta.clone()), graph.input("bias", meta));
    let sum = graph.apply(Add, [Some(x), Some(bias)]).unwrap();
    let relu = Activate { activation: Activation::Relu };
    let y = graph.apply(relu, [Some(sum)]).unwrap();
    graph.output("y", y);
    Arc::new(graph)
}

#[test]
fn both_keep_inputs_and_intermediates() {
    for device in devices() {
        let graph = own_graph();
        let sizes = graph.sizes(&[("rows", 1)]).unwrap();
        let session = session(&device, &graph, sizes);
        let row = |values: [f32; 3]| Tensor::f32([1, 3], values.to_vec()).unwrap();
        session.write(&[("bias", &row([1.0, 1.0, 1.0]))], &sizes).unwrap();
        let x = row([1.0, -4.0, 0.5]);
        let mut outputs = session.step(&[("x", &x)], &sizes, None).unwrap();
        let what = device.name();
        assert_eq!(outputs.remove("y").unwrap(), row([2.0, 0.0, 1.5]), "{what}");
        let sum = graph.nodes()[0].outputs[0];
        assert_eq!(session.value(sum, &sizes).unwrap(), row([2.0, -3.0, 1.5]), "{what}");
        assert_eq!(session.value(graph.nodes()[0].inputs[0].unwrap(), &sizes).unwrap(), x);
        // A shape that is not the step's.
        let long = Tensor::f32([2, 3], vec![0.0; 6]).unwrap();
        let error = session.step(&[("x", &long)], &sizes, None).unwrap_err().to_string();
        assert_eq!(error, "tensor `x`: got f32[2, 3], expected f32[1, 3]", "{what}");
    }
}

#[test]
fn the_cpu_has_no_capacity_and_a_runner_on_it_serves_threads_at_once() {
    let graph = own_graph();
    let [gpu, cpu] = devices();
    let sizes = graph.sizes(&[("rows", 2)]).unwrap();
    assert_eq!(session(&gpu, &graph, sizes).capacity(), Some(sizes));
    assert_eq!(session(&cpu, &graph, sizes).capacity(), None);
    for device in [gpu, cpu] {
        let runner = Runner::fused(Arc::clone(&graph), device);
        std::thread::scope(|scope| {
            for thread in 1..=4usize {
                let runner = &runner;
                scope.spawn(move || {
                    for rows in [thread, 5 - thread] {
                        let x = Tensor::f32([rows, 3], vec![thread as f32; rows * 3]).unwrap();
                        let y = runner.run(&[("x", &x), ("bias", &x)]).unwrap();
                        let want = vec![2.0 * thread as f32; rows * 3];
                        assert_eq!(y["y"].as_f32().unwrap(), want);
                    }
                });
            }
        });
    }
}

#[test]
fn a_lost_or_unknown_size_is_an_error() {
    for (folder, source, want) in [
        ("gpt2", 3, "`source` is not a size; the sizes are batch, tokens, "),
        ("t5", 0, "size `source` is missing"),
    ] {
        let options = BuildOptions::default();
        let generator = Generator::open(golden(folder), Device::cpu(), &options).unwrap();
        let capacity = |source| Capacity { batch: 1, context: 8, source };
        let sizes = |source| generator.sizes(capacity(source));
        let error = sizes(source).unwrap_err().to_string();
        assert!(error.starts_with(want), "{folder}: {error}");
        let go_on = &mut |_: Progress<'_>| ControlFlow::Continue(());
        let error = generator.reserve(capacity(source), go_on).unwrap_err().to_string();
        assert!(error.starts_with(want), "{folder}: {error}");
        assert!(sizes(3 - source).is_ok(), "{folder}");
    }
}
