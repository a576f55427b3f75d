//! Every kernel variant against its op's f64 reference, on every case, with poisoned results
//! and sentinels; once with naga's run-time checks and once as the product runs it.

mod common;

use tilewright::gpu::{Gpu, GpuOptions};
use tilewright::ops::{self, Case, RunOptions};
use tilewright::tensor::Meta;

/// Runs one case on one variant; `Ok(false)` when the variant does not take it.
fn run_case(gpu: &Gpu, case: &Case, kernel: &ops::Kernel) -> Result<bool, String> {
    if kernel.needs.missing(gpu.caps()).is_some() {
        return Ok(false);
    }
    let want = case.reference().map_err(|e| e.to_string())?;
    let inputs: Vec<_> = case.inputs.iter().map(|t| t.as_ref().map(|t| t.meta())).collect();
    let outputs: Vec<Meta> = want.iter().map(|t| t.meta()).collect();
    let call = ops::Call {
        inputs: &inputs,
        outputs: &outputs,
        sizes: &case.sizes,
        caps: gpu.caps(),
        part: None,
    };
    if !case.op.accepts(kernel, &call) {
        return Ok(false);
    }
    let options = RunOptions { kernel: Some(kernel.name), ..RunOptions::default() };
    let got =
        ops::run(gpu, &*case.op, &case.inputs, &case.sizes, options).map_err(|e| e.to_string())?;
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let found = case.tolerance.compare(got, want, i).map_err(|e| e.to_string())?;
        if !found.passed {
            return Err(format!("result {i}: {found:?}"));
        }
    }
    Ok(true)
}

fn run_all(gpu: &Gpu) {
    let (mut failures, mut ran) = (Vec::new(), 0);
    for entry in ops::registry() {
        let cases = (entry.cases)();
        assert!(!cases.is_empty(), "{} has no cases", entry.name);
        for kernel in entry.kernels {
            let mut taken = 0;
            for case in &cases {
                match run_case(gpu, case, kernel) {
                    Ok(true) => taken += 1,
                    Ok(false) => {}
                    Err(e) => failures.push(format!("{} | {}: {e}", kernel.name, case.label)),
                }
            }
            match kernel.needs.missing(gpu.caps()) {
                Some(lack) => println!("{}: not run, the device lacks {lack}", kernel.name),
                None => assert!(taken > 0 || !failures.is_empty(), "{}: no case", kernel.name),
            }
            ran += taken;
        }
        for case in &cases {
            let want = case.reference().unwrap_or_else(|e| panic!("{}: {e}", case.label));
            match ops::run_cpu(&*case.op, &case.inputs, &case.sizes) {
                Err(e) => failures.push(format!("{} on CPU | {}: {e}", entry.name, case.label)),
                Ok(got) => {
                    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                        let found = case.tolerance.compare(got, want, i);
                        if !found.as_ref().is_ok_and(|c| c.passed) {
                            let at = format!("{} on CPU | {}", entry.name, case.label);
                            failures.push(format!("{at}: result {i}: {found:?}"));
                        }
                    }
                }
            }
        }
    }
    println!("{}: {ran} runs", gpu.caps().name);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_variant_matches_its_reference_with_checks_on() {
    run_all(&common::checked());
}

#[test]
fn every_variant_matches_its_reference_as_shipped() {
    run_all(&common::open(GpuOptions::default()));
}
