//! Every kernel variant against its op's f64 reference: for tests, `verify ops` and, with a
//! few cases, for the certification of a variant before its first use on an adapter.

use super::eager::{RunOptions, run, run_cpu};
use super::kernel::Precision;
use super::op::{Case, Entry, Kernel};
use super::registry::registry;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::tensor::{DType, Tensor};

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

/// Holds results to the case's reference.
pub(super) fn judge(case: &Case, got: &[Tensor], precision: Precision) -> Result<Outcome> {
    let want = case.reference()?;
    let tolerance = case.tolerance.at(precision);
    let (mut nmse, mut max_abs) = (0.0f64, 0.0f64);
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let found = if got.dtype() == DType::F16 && want.dtype() == DType::F32 {
            tolerance.stored_in_f16().compare(got, &saturated(want)?, i)?
        } else {
            tolerance.compare(got, want, i)?
        };
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

/// What a result that is narrowed can be at most. The rounding is the tolerance's matter.
fn saturated(want: &Tensor) -> Result<Tensor> {
    let held = want.as_f32()?.iter().map(|v| v.clamp(-65504.0, 65504.0));
    Tensor::f32(want.shape(), held.collect())
}

/// Runs one case on one variant, held to the variant's own precision.
pub fn verify_case(gpu: &Gpu, case: &Case, kernel: &dyn Kernel) -> Outcome {
    try_case(gpu, case, kernel, Precision::Fast).unwrap_or_else(|e| Outcome::Failed(e.to_string()))
}

/// The same, with the device's own errors kept apart from wrong results; only for kernels of at
/// most this precision.
pub(super) fn try_case(
    gpu: &Gpu,
    case: &Case,
    kernel: &dyn Kernel,
    precision: Precision,
) -> Result<Outcome> {
    let caps = gpu.caps();
    if let Some(lack) = kernel.needs().missing(caps) {
        return Ok(Outcome::NotRun(format!("the device lacks {lack}")));
    }
    let turned_away = case.with_call(caps, |call| {
        let metas = call.inputs.iter().flatten().chain(call.outputs);
        if metas.into_iter().any(|m| m.bytes() as u64 + GUARD > caps.max_binding) {
            return Some("larger than the device's largest binding");
        }
        if call.narrows() && !caps.f16 {
            return Some("the device lacks f16 arithmetic");
        }
        (!kernel.takes(call)).then_some("the variant does not take these shapes")
    })?;
    if let Some(why) = turned_away {
        return Ok(Outcome::NotRun(why.to_owned()));
    }
    if kernel.precision() > Precision::Exact && !case.fits_f16() {
        return Ok(Outcome::NotRun("values beyond f16".to_owned()));
    }
    let options = RunOptions {
        kernel: Some(kernel.name()),
        precision,
        narrow: case.narrow,
        ..RunOptions::default()
    };
    let got = run(gpu, &*case.op, &case.inputs, &case.sizes, options)?;
    judge(case, &got, kernel.precision())
}

/// Runs one case on the CPU route.
pub fn verify_cpu(case: &Case) -> Outcome {
    run_cpu(&*case.op, &case.inputs, &case.sizes)
        .and_then(|got| judge(case, &got, Precision::Exact))
        .unwrap_or_else(|e| Outcome::Failed(e.to_string()))
}

/// Runs every case of one op, long ones included, on every variant (`Some`) or on the CPU route (`None`).
pub fn verify_entry(gpu: Option<&Gpu>, entry: &'static Entry) -> Vec<Verdict> {
    let verdict = |kernel, case: &Case, outcome| Verdict {
        op: entry.name,
        kernel,
        case: case.label.clone(),
        outcome,
    };
    let cases = [(entry.cases)(), (entry.long_cases)()].concat();
    let Some(gpu) = gpu else {
        return cases.iter().map(|c| verdict("cpu", c, verify_cpu(c))).collect();
    };
    let kernels = entry.kernels.iter();
    kernels
        .flat_map(|k| cases.iter().map(move |c| (k, c)))
        .map(|(k, c)| verdict(k.name(), c, verify_case(gpu, c, *k)))
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
