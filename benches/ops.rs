//! Criterion benches of every op, at sizes of BERT-base where there are such, on the device
//! `TILEWRIGHT_DEVICE` names (else the first one), by its own clock where it has one.
//!
//! An op that is new to the registry is benched with the largest of its test cases until it
//! gets a line in `request`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tilewright::Tensor;
use tilewright::gpu::Gpu;
use tilewright::ops::bench::Timer;
use tilewright::ops::{Entry, Op, Prepared, Request, Rng, RunOptions, registry};
use tilewright::tensor::Sizes;

const TOKENS: usize = 128;
const HIDDEN: usize = 768;
const INNER: usize = 3072;
const VOCABULARY: usize = 30522;

/// Named calls of one op.
fn requests(name: &'static str) -> Vec<(&'static str, Request)> {
    let mut rng = Rng::new(3);
    let new = || Request::new(name);
    let hidden = |rng: &mut Rng| rng.tensor([TOKENS, HIDDEN]);
    match name {
        "matmul" => {
            let mut linear = |m: usize, n: usize, k: usize| {
                let call = new().setting("layout", "nt");
                call.tensor("x", rng.tensor([m, k])).tensor("weight", rng.tensor([n, k]))
            };
            vec![
                ("128x3072x768", linear(TOKENS, INNER, HIDDEN)),
                ("512x768x768", linear(512, HIDDEN, HIDDEN)),
                ("1x3072x768", linear(1, INNER, HIDDEN)),
            ]
        }
        "attention" => {
            let mut heads = |queries: usize, keys: usize| {
                let mut tensor = |tokens| rng.tensor([1, 12, tokens, 64]);
                new()
                    .tensor("q", tensor(queries))
                    .tensor("k", tensor(keys))
                    .tensor("v", tensor(keys))
            };
            vec![
                ("1x12x128x64", heads(TOKENS, TOKENS)),
                ("1x12x512x64 causal", heads(512, 512).setting("mask", "causal")),
                ("1x12x1/512x64", heads(1, 512)),
            ]
        }
        "layer_norm" => {
            let weights = [rng.tensor([HIDDEN]), rng.tensor([HIDDEN])];
            let [weight, bias] = weights;
            let call = new().tensor("x", hidden(&mut rng));
            vec![("128x768", call.tensor("weight", weight).tensor("bias", bias))]
        }
        "rms_norm" => {
            let weight = rng.tensor([HIDDEN]);
            vec![("128x768", new().tensor("x", hidden(&mut rng)).tensor("weight", weight))]
        }
        "add" => {
            vec![("128x768", new().tensor("a", hidden(&mut rng)).tensor("b", hidden(&mut rng)))]
        }
        "embedding" => {
            let ids = (0..TOKENS).map(|_| rng.below(VOCABULARY) as u32).collect();
            let ids = Tensor::u32([TOKENS], ids).expect("as many ids as tokens");
            let table = rng.tensor([VOCABULARY, HIDDEN]);
            vec![("128 of 30522x768", new().tensor("table", table).tensor("ids", ids))]
        }
        "argmax" | "softmax" | "log_softmax" => {
            vec![("8x30522", new().tensor("x", rng.tensor([8, VOCABULARY])))]
        }
        "gelu_erf" | "gelu_tanh" | "quick_gelu" | "relu" | "sigmoid" | "silu" | "tanh" => {
            vec![("128x3072", new().tensor("x", rng.tensor([TOKENS, INNER])))]
        }
        _ => Vec::new(),
    }
}

/// An op with its operands, ready to run, and the name of its sizes.
struct Subject {
    label: String,
    prepared: Prepared,
}

fn subjects(gpu: &Gpu, entry: &'static Entry) -> Vec<Subject> {
    let prepare = |label: &str, op: &dyn Op, inputs: &[Option<Tensor>], sizes: &Sizes| {
        let prepared = Prepared::new(gpu, op, inputs, sizes, RunOptions::default());
        let prepared = prepared.unwrap_or_else(|e| panic!("{} {label}: {e}", entry.name));
        Subject { label: label.to_owned(), prepared }
    };
    let mut subjects = Vec::new();
    for (label, mut request) in requests(entry.name) {
        let (op, inputs) =
            (entry.build)(&mut request).unwrap_or_else(|e| panic!("{} {label}: {e}", entry.name));
        request.finish().unwrap_or_else(|e| panic!("{label}: {e}"));
        subjects.push(prepare(label, &*op, &inputs, &Sizes::default()));
    }
    if subjects.is_empty() {
        let elements = |t: &Tensor| t.shape().numel();
        let size = |case: &tilewright::ops::Case| case.inputs.iter().flatten().map(elements).sum();
        let cases = (entry.cases)();
        let largest = cases.iter().max_by_key(|case| -> usize { size(case) });
        let case = largest.unwrap_or_else(|| panic!("{} has no cases", entry.name));
        subjects.push(prepare(&case.label, &*case.op, &case.inputs, &case.sizes));
    }
    subjects
}

fn ops(criterion: &mut Criterion) {
    let gpu = common::shared();
    let timer = Timer::new(&gpu).unwrap_or_else(|e| panic!("no clock: {e}"));
    eprintln!("on {}, by its {}", gpu.caps().name, timer.clock().name());
    for entry in registry() {
        let mut group = criterion.benchmark_group(entry.name);
        group.sample_size(10).warm_up_time(Duration::from_millis(300));
        group.measurement_time(Duration::from_secs(1));
        for Subject { label, prepared } in subjects(&gpu, entry) {
            group.throughput(Throughput::Bytes(prepared.cost().bytes as u64));
            let id = BenchmarkId::new(prepared.kernel().name(), label);
            let time = |repeats| {
                let ns = timer.run(&prepared, repeats).unwrap_or_else(|e| panic!("{e}"));
                Duration::from_nanos(ns as u64)
            };
            group.bench_function(id, |bencher| {
                // CPU drivers compile at the first run, which would mislead the warm-up.
                time(1);
                bencher.iter_custom(time);
            });
        }
        group.finish();
    }
}

criterion_group!(benches, ops);
criterion_main!(benches);
