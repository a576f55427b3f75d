//! What a kernel costs at least, beside what it takes on the driver at hand.

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use tilewright::gpu::Caps;
use tilewright::ops::bench::{MeasureOptions, measure};
use tilewright::ops::{
    Attention, Case, Checker, Matmul, Precision, Prepared, Rng, RunOptions, Tolerance, registry,
};
use tilewright::simt::Machine;

use crate::common::shared;

fn work(case: &Case) -> usize {
    case.inputs.iter().flatten().map(|t| t.shape().numel()).sum()
}

/// Work large enough for a dispatch's own cost to matter less.
fn large(op: &str) -> Option<Case> {
    let mut rng = Rng::new(3);
    let bound = Tolerance::f32(1e-3, 1e-3);
    match op {
        "matmul" => {
            let inputs = [[128, 256], [256, 256]].map(|dims| Some(rng.tensor(dims)));
            let inputs = inputs.into_iter().chain([None, None]).collect();
            Some(Case::new("large, 128x256 by 256x256", Matmul::linear(), inputs, bound))
        }
        "attention" => {
            let inputs = [(); 3].map(|()| Some(rng.tensor([1, 128, 256])));
            let inputs = inputs.into_iter().chain([None, None, None]).collect();
            let op = Attention::new(4, 4, 64);
            Some(Case::new("large, 4 heads of 64, 128 tokens", op, inputs, bound))
        }
        _ => None,
    }
}

/// The machine of the table that this one is like, and how many of it.
fn machine(caps: &Caps) -> Option<(&'static Machine, f64)> {
    let cores = available_parallelism().map_or(1, NonZero::get) as f64;
    let known = [("H100", "h100"), ("H200", "h100"), ("7900 XTX", "rdna3"), ("Apple M2", "m2")];
    let named = known.into_iter().find(|(part, _)| caps.name.contains(part));
    let (name, count) = match named {
        _ if caps.software => ("lavapipe", cores),
        named => (named?.1, 1.0),
    };
    Some((Machine::named(name).expect("it is in the table"), count))
}

/// Each kernel's largest case, or one made for it, on the driver at hand: nothing is faster than its bound. Prints the
/// table of docs/checker.md:
///
///     cargo test --test simt bounds -- --nocapture
#[test]
fn no_kernel_is_faster_than_its_bound() {
    let gpu = shared();
    let Some((machine, processors)) = machine(gpu.caps()) else {
        println!("no machine of assets/machines.json is like {}", gpu.caps().name);
        return;
    };
    let checker = Checker::default();
    let options = MeasureOptions { repetitions: 5, min_time: Duration::from_millis(2) };
    let (mut rows, mut faster) = (Vec::new(), Vec::new());
    for entry in registry() {
        let mut cases = (entry.cases)();
        cases.sort_by_key(|case| std::cmp::Reverse(work(case)));
        cases.splice(0..0, large(entry.name));
        for &kernel in entry.kernels.iter() {
            let takes = |case: &&Case| {
                let takes = case.with_call(gpu.caps(), |call| kernel.takes(call));
                kernel.needs().missing(gpu.caps()).is_none() && takes.expect("it is a case")
            };
            let Some(case) = cases.iter().find(takes) else { continue };
            let cost = checker.check_case(gpu.caps(), case, kernel, true).report.cost;
            let bound = machine.bound(&cost.expect("it was metered"));
            let least = bound.at_least / processors;
            let request = RunOptions {
                kernel: Some(kernel.name()),
                precision: Precision::Fast,
                narrow: case.narrow,
                ..RunOptions::default()
            };
            let prepared =
                Prepared::new(&gpu, case.op.as_ref(), &case.inputs, &case.sizes, request)
                    .expect("it fits");
            let took = measure(&gpu, &prepared, &options).expect("it runs").min_ns * 1e-9;
            let name = format!("{} {}", kernel.name(), case.label);
            let by = bound.clocks[0].0;
            let row = format!(
                "| {name} | {:.2} | {by} | {:.1} | {:.1} % |",
                least * 1e6,
                took * 1e6,
                100.0 * least / took
            );
            if took < least {
                faster.push(row.clone());
            }
            rows.push(row);
        }
    }
    println!("{}, {processors} x {}\n", gpu.caps().name, machine.title);
    println!(
        "| kernel and case | us at least | bound by | us measured | reached |\n|---|---|---|---|---|"
    );
    println!("{}", rows.join("\n"));
    assert!(rows.len() > 20, "only {} kernels were measured", rows.len());
    assert!(faster.is_empty(), "faster than possible:\n{}", faster.join("\n"));
}
