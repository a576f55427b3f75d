//! Every kernel variant against its op's f64 reference, on every case, with poisoned results
//! and sentinels; once with naga's run-time checks and once as the product runs it.

mod common;

use tilewright::gpu::{Gpu, GpuOptions};
use tilewright::ops::{Outcome, verify_ops};

fn run_all(gpu: Option<&Gpu>) {
    let verdicts = verify_ops(gpu, |_| true);
    let mut failures = Vec::new();
    for v in &verdicts {
        if let Outcome::Failed(why) = &v.outcome {
            failures.push(format!("{} | {} | {}: {why}", v.op, v.kernel, v.case));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    // A variant the device can run must have run at least one case.
    for v in &verdicts {
        let same = || verdicts.iter().filter(|w| w.op == v.op && w.kernel == v.kernel);
        let passed = same().any(|w| matches!(w.outcome, Outcome::Passed { .. }));
        let lacking = same().all(
            |w| matches!(&w.outcome, Outcome::NotRun(why) if why.starts_with("the device lacks")),
        );
        assert!(passed || lacking, "{}/{} ran no case", v.op, v.kernel);
    }
}

#[test]
fn every_variant_matches_its_reference_with_checks_on() {
    run_all(Some(&common::open(GpuOptions { checked: true, ..GpuOptions::default() })));
}

#[test]
fn every_variant_matches_its_reference_as_shipped() {
    run_all(Some(&common::open(GpuOptions::default())));
}

#[test]
fn every_cpu_route_matches_its_reference() {
    run_all(None);
}
