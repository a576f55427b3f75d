//! Every kernel variant against its op's f64 reference, on every case, with poisoned results
//! and sentinels; once with naga's run-time checks and once as the product runs it.

use std::collections::BTreeSet;

use tilewright::gpu::{Caps, Gpu, GpuOptions, Loops, Spec, assemble_with};
use tilewright::ops::{Call, Case, Kernel, Outcome, registry, verify_case, verify_ops};

use crate::common;

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
    let gpu = common::open(GpuOptions { checked: true, ..GpuOptions::default() });
    let (mut ran, mut failures) = (0, Vec::new());
    // A sample: all of them run as shipped, each compiles a variant of its own for seconds, and the
    // kernel checker (tests/simt) sees every index of every case. `tools/test.sh --all`: more.
    let step = if std::env::var_os("TILEWRIGHT_EVERY_TEXT").is_some() { 3 } else { 12 };
    for entry in registry() {
        for kernel in entry.kernels.iter().copied() {
            for case in (entry.cases)().iter().step_by(step) {
                match verify_case(&gpu, case, kernel) {
                    Outcome::Passed { .. } => ran += 1,
                    Outcome::Failed(why) => failures.push(format!("{} {why}", case.label)),
                    Outcome::NotRun(_) => {}
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(ran > 50, "only {ran} cases ran");
}

#[test]
fn every_variant_matches_its_reference_as_shipped() {
    run_all(Some(&common::shared()));
}

/// The variant of a kernel for a case, on a device with such subgroups.
fn spec(case: &Case, kernel: &dyn Kernel, gpu: &Gpu, subgroup: Option<u32>) -> Option<Vec<Spec>> {
    let caps = Caps { subgroup, ..gpu.caps().clone() };
    let specs = |call: &Call<'_>| {
        let stages = 0..kernel.stages().len();
        kernel.takes(call).then(|| stages.map(|s| kernel.spec(s, call).expect("a spec")).collect())
    };
    case.with_call(&caps, specs).expect("a case passes its op's checks")
}

/// Both drivers have subgroups, so what kernels do without any is compiled nowhere else.
#[test]
fn variants_for_devices_without_subgroups_match_their_reference() {
    let gpu = common::open(GpuOptions { no_subgroups: true, ..GpuOptions::default() });
    let (mut ran, mut failures) = (0, Vec::new());
    for entry in registry() {
        for kernel in entry.kernels.iter().copied().filter(|k| k.needs().subgroup.is_none()) {
            let differs = |c: &Case| {
                let without = spec(c, kernel, &gpu, None);
                without.is_some() && without != spec(c, kernel, &gpu, Some(8))
            };
            // Every other one: features and sizes come several times.
            for case in (entry.cases)().iter().filter(|c| differs(c)).step_by(4) {
                match verify_case(&gpu, case, kernel) {
                    Outcome::Passed { .. } => ran += 1,
                    Outcome::Failed(why) => failures.push(format!("{} {why}", case.label)),
                    Outcome::NotRun(why) => failures.push(format!("{} not run: {why}", case.label)),
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(ran > 20, "only {ran} cases ran");
}

/// Marked loops are expanded in what ships; the files themselves must mean the same. Both forms are
/// held to the reference by the case's own bound.
#[test]
fn marked_loops_mean_the_same_as_they_stand() {
    let gpu = common::open(GpuOptions { loops: Loops::Plain, ..GpuOptions::default() });
    let (mut ran, mut failures) = (0, Vec::new());
    for entry in registry() {
        for kernel in entry.kernels.iter().copied() {
            if kernel.needs().missing(gpu.caps()).is_some() {
                continue;
            }
            let mut seen = BTreeSet::new();
            for case in (entry.cases)() {
                // Each variant once, if it has such a loop.
                let specs = spec(&case, kernel, &gpu, gpu.caps().subgroup);
                let Some(specs) = specs else { continue };
                let text = |loops| -> Vec<_> {
                    let stages = kernel.stages().iter().zip(&specs);
                    stages
                        .map(|(stage, spec)| {
                            assemble_with(stage.source, spec, loops).expect("assembles")
                        })
                        .collect()
                };
                if text(Loops::Plain) == text(Loops::Unrolled) || !seen.insert(format!("{specs:?}"))
                {
                    continue;
                }
                match verify_case(&gpu, &case, kernel) {
                    Outcome::Passed { .. } => ran += 1,
                    Outcome::Failed(why) => failures.push(format!("{} {why}", case.label)),
                    Outcome::NotRun(why) => failures.push(format!("{} not run: {why}", case.label)),
                }
                // Two variants of a kernel: each is compiled for seconds on a CPU.
                if seen.len() == 2 {
                    break;
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(ran > 10, "only {ran} cases ran");
}

#[test]
fn every_cpu_route_matches_its_reference() {
    run_all(None);
}

/// Only the newest Mesa and GPUs have matrix units, so this one test is run there; elsewhere it holds
/// that nothing lists them as usable.
#[test]
fn kernels_for_matrix_units_match_their_reference() {
    let gpu = common::shared();
    let has = gpu.caps().fragment().is_some();
    let (mut ran, mut failures) = (0, Vec::new());
    for entry in registry() {
        for kernel in entry.kernels.iter().copied().filter(|k| k.needs().cooperative) {
            assert_eq!(kernel.needs().missing(gpu.caps()).is_none(), has, "{}", kernel.name());
            for case in (entry.cases)().iter().step_by(3) {
                match verify_case(&gpu, case, kernel) {
                    Outcome::Passed { .. } => ran += 1,
                    Outcome::Failed(why) => failures.push(format!("{} {why}", case.label)),
                    Outcome::NotRun(_) => {}
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(ran > 10, has, "{ran} cases ran");
}
