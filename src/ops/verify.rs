//! Every kernel variant against its op's f64 reference: for tests, `verify ops` and, with a
//! few cases, for the certification of a variant before its first use on an adapter.

use super::{Call, Case, Entry, Kernel, RunOptions, registry, run, run_cpu};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::tensor::Meta;

/// What became of one case on one variant.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The op.
    pub op: &'static str,
    /// The variant; `cpu` for the CPU route.
    pub kernel: &'static str,
    /// The case.
    pub case: String,
    /// Result.
    pub outcome: Outcome,
}

/// Result of one case.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Within the tolerance.
    Passed {
        /// Normalised mean squared error.
        nmse: f64,
        /// Largest absolute difference.
        max_abs: f64,
    },
    /// Beyond it, or an error.
    Failed(String),
    /// The device lacks something, or the variant does not take the shapes.
    NotRun(String),
}

/// Bytes the eager runner adds behind a result.
const GUARD: u64 = 256;

fn judge(case: &Case, got: &[crate::tensor::Tensor]) -> Result<Outcome> {
    let want = case.reference()?;
    let (mut nmse, mut max_abs) = (0.0f64, 0.0f64);
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let found = case.tolerance.compare(got, want, i)?;
        if !found.passed {
            let message = format!(
                "result {i}: NMSE {:.2e}, max abs {:.2e}, worst at element {}",
                found.nmse,
                found.max_abs,
                found.worst.map_or_else(|| "-".to_owned(), |w| w.to_string())
            );
            return Ok(Outcome::Failed(message));
        }
        nmse = nmse.max(found.nmse);
        max_abs = max_abs.max(found.max_abs);
    }
    if got.len() == want.len() {
        Ok(Outcome::Passed { nmse, max_abs })
    } else {
        Ok(Outcome::Failed(format!("{} results, expected {}", got.len(), want.len())))
    }
}

/// Runs one case on one variant.
pub fn verify_case(gpu: &Gpu, case: &Case, kernel: &Kernel) -> Outcome {
    try_case(gpu, case, kernel).unwrap_or_else(|e: Error| Outcome::Failed(e.to_string()))
}

/// The same, with the device's own errors kept apart from wrong results.
pub(super) fn try_case(gpu: &Gpu, case: &Case, kernel: &Kernel) -> Result<Outcome> {
    if let Some(lack) = kernel.needs.missing(gpu.caps()) {
        return Ok(Outcome::NotRun(format!("the device lacks {lack}")));
    }
    let metas: Vec<_> = case.inputs.iter().map(|t| t.as_ref().map(|t| t.meta())).collect();
    let sym: Vec<_> = metas.iter().map(|m| m.map(Into::into)).collect();
    let outputs = case.op.infer(&sym)?;
    let outputs: Vec<Meta> = outputs.iter().map(|m| m.eval(&case.sizes)).collect::<Result<_>>()?;
    let caps = gpu.caps();
    let call = Call { inputs: &metas, outputs: &outputs, sizes: &case.sizes, caps, part: None };
    if metas.iter().flatten().chain(&outputs).any(|m| m.bytes() as u64 + GUARD > caps.max_binding) {
        return Ok(Outcome::NotRun("larger than the device's largest binding".to_owned()));
    }
    if !case.op.accepts(kernel, &call) {
        return Ok(Outcome::NotRun("the variant does not take these shapes".to_owned()));
    }
    let options = RunOptions { kernel: Some(kernel.name), ..RunOptions::default() };
    judge(case, &run(gpu, &*case.op, &case.inputs, &case.sizes, options)?)
}

/// Runs one case on the CPU route.
pub fn verify_cpu(case: &Case) -> Outcome {
    run_cpu(&*case.op, &case.inputs, &case.sizes)
        .and_then(|got| judge(case, &got))
        .unwrap_or_else(|e| Outcome::Failed(e.to_string()))
}

/// Runs every case of one op on every variant (`Some`) or on the CPU route (`None`).
pub fn verify_entry(gpu: Option<&Gpu>, entry: &'static Entry) -> Vec<Verdict> {
    let verdict = |kernel, case: &Case, outcome| Verdict {
        op: entry.name,
        kernel,
        case: case.label.clone(),
        outcome,
    };
    let cases = (entry.cases)();
    let Some(gpu) = gpu else {
        return cases.iter().map(|c| verdict("cpu", c, verify_cpu(c))).collect();
    };
    let kernels = entry.kernels.iter();
    kernels
        .flat_map(|k| cases.iter().map(move |c| (k, c)))
        .map(|(k, c)| verdict(k.name, c, verify_case(gpu, c, k)))
        .collect()
}

/// Runs every case of every op; see [`verify_entry`]. `progress` gets each op's name before it
/// runs and may stop by returning `false`.
pub fn verify_ops(gpu: Option<&Gpu>, mut progress: impl FnMut(&str) -> bool) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for entry in registry() {
        if !progress(entry.name) {
            break;
        }
        verdicts.extend(verify_entry(gpu, entry));
    }
    verdicts
}
