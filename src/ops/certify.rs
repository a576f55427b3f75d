//! Certification: a kernel is run on a few of its op's cases before its first use on an
//! adapter, and is off there if it gives a wrong answer. Drivers miscompile; a wrong vector
//! is worse than a slow one.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::{Kernel, Outcome, registry, verify_case};
use crate::gpu::{Gpu, Spec, assemble};

/// Cases a verdict rests on, spread over the op's list.
const CASES: usize = 4;
/// What is stored for a kernel that passed.
const CERTIFIED: &str = "certified";

/// Whether `kernel` gives right answers on this device; `Err` says why it is off. The verdict
/// is kept under the kernel's name and the hash of its text, so an edited kernel is tried
/// again.
pub fn certify(gpu: &Gpu, kernel: &'static Kernel) -> Result<(), String> {
    if let Some(lack) = kernel.needs.missing(gpu.caps()) {
        return Err(format!("the device lacks {lack}"));
    }
    let text = assemble(kernel.source, &Spec::new()).map_err(|e| e.to_string())?;
    let mut hasher = DefaultHasher::new();
    (text, env!("CARGO_PKG_VERSION"), gpu.options().checked).hash(&mut hasher);
    let key = format!("{} {:016x}", kernel.name, hasher.finish());
    let finding = match gpu.verdicts().get(&key) {
        Some(finding) => finding,
        None => {
            let finding = try_cases(gpu, kernel);
            gpu.verdicts().set(key, finding.clone());
            finding
        }
    };
    if finding == CERTIFIED { Ok(()) } else { Err(finding) }
}

fn try_cases(gpu: &Gpu, kernel: &'static Kernel) -> String {
    let has = |e: &&&super::Entry| e.kernels.iter().any(|k| std::ptr::eq(k, kernel));
    let Some(entry) = registry().iter().find(has) else {
        return "no op lists it".to_owned();
    };
    let cases = (entry.cases)();
    let step = (cases.len() / (2 * CASES)).max(1);
    let mut passed = 0;
    // Spread first; the whole list only if too few of those fit the variant.
    for case in cases.iter().step_by(step).chain(&cases) {
        match verify_case(gpu, case, kernel) {
            Outcome::Passed { .. } => passed += 1,
            Outcome::Failed(why) => return format!("{}: {why}", case.label),
            Outcome::NotRun(_) => {}
        }
        if passed == CASES {
            break;
        }
    }
    if passed > 0 { CERTIFIED.to_owned() } else { "no case fits it".to_owned() }
}
