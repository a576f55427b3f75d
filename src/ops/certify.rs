//! Certification: a kernel is run on a few of its op's cases before its first use on an
//! adapter, and is off there if it gives a wrong answer. Drivers miscompile; a wrong vector
//! is worse than a slow one.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::verify::try_case;
use super::{Kernel, Outcome, registry};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Spec, assemble};

/// Cases a verdict rests on, spread over the op's list.
const CASES: usize = 4;
/// What is stored for a kernel that passed.
const CERTIFIED: &str = "certified";

/// Why `kernel` is off on this device, or `None` if it gives right answers there. The verdict
/// is kept under the kernel's name and the hash of its text, so an edited kernel is tried
/// again. Errors when the device itself fails (out of memory, lost, no answer in time).
pub fn certify(gpu: &Gpu, kernel: &'static Kernel) -> Result<Option<String>> {
    if let Some(lack) = kernel.needs.missing(gpu.caps()) {
        return Ok(Some(format!("the device lacks {lack}")));
    }
    let text = assemble(kernel.source, &Spec::new())?;
    let mut hasher = DefaultHasher::new();
    (text, env!("CARGO_PKG_VERSION"), gpu.options().checked).hash(&mut hasher);
    let key = format!("{} {:016x}", kernel.name, hasher.finish());
    let finding = match gpu.verdicts().get(&key) {
        Some(finding) => finding,
        None => {
            let finding = try_cases(gpu, kernel)?;
            gpu.verdicts().set(key, finding.clone());
            finding
        }
    };
    Ok((finding != CERTIFIED).then_some(finding))
}

fn try_cases(gpu: &Gpu, kernel: &'static Kernel) -> Result<String> {
    let has = |e: &&&super::Entry| e.kernels.iter().any(|k| std::ptr::eq(k, kernel));
    let Some(entry) = registry().iter().find(has) else {
        return Ok("no op lists it".to_owned());
    };
    let cases = (entry.cases)();
    let step = (cases.len() / (2 * CASES)).max(1);
    let mut passed = 0;
    // Spread first; the whole list only if too few of those fit the variant.
    for case in cases.iter().step_by(step).chain(&cases) {
        match try_case(gpu, case, kernel) {
            Ok(Outcome::Passed { .. }) => passed += 1,
            Ok(Outcome::Failed(why)) => return Ok(format!("{}: {why}", case.label)),
            Ok(Outcome::NotRun(_)) => {}
            Err(e @ (Error::OutOfMemory(_) | Error::DeviceLost(_) | Error::Timeout { .. })) => {
                return Err(e);
            }
            Err(e) => return Ok(format!("{}: {e}", case.label)),
        }
        if passed == CASES {
            break;
        }
    }
    Ok(if passed > 0 { CERTIFIED } else { "no case fits it" }.to_owned())
}
