//! Certification: a kernel's variant is run on a few cases before its first use on an adapter,
//! and is off there if it gives a wrong answer. Drivers miscompile; a wrong vector is worse than
//! a slow one.
//!
//! What is certified is what will run: a verdict belongs to a *class* of variants, all that
//! assemble from the same files with the same features ([`Spec::class`]) and differ in sizes
//! only. Its key hashes the assembled text, imports included, so an edited file is tried again,
//! and a kernel that is wrong with f16 keys or with one activation is off for those alone.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use super::kernel::Precision;
use super::op::{Call, Case, Entry, Kernel};
use super::registry::registry;
use super::verify::Outcome;
use super::verify::try_case;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Loops, Spec, assemble_with};

/// Cases a verdict rests on: spread over those of the class, then those nearest to it.
const CASES: usize = 2;
/// What is stored for a class that passed.
const CERTIFIED: &str = "certified";

/// The class of a call's variant: one spec per stage, without sizes.
pub fn class_of(kernel: &dyn Kernel, call: &Call<'_>) -> Result<Vec<Spec>> {
    (0..kernel.stages().len()).map(|stage| Ok(kernel.spec(stage, call)?.class())).collect()
}

/// Hash of the text that a call's variant assembles to, without its sizes.
pub(super) fn text_hash(kernel: &dyn Kernel, call: &Call<'_>) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    hash_texts(kernel, &class_of(kernel, call)?, &mut hasher)?;
    Ok(hasher.finish())
}

fn hash_texts(kernel: &dyn Kernel, class: &[Spec], hasher: &mut DefaultHasher) -> Result<()> {
    for (stage, spec) in kernel.stages().iter().zip(class) {
        assemble_with(stage.source, spec, Loops::Plain)?.wgsl.hash(hasher);
    }
    Ok(())
}

/// Where the verdict of a class is kept.
fn key_of(gpu: &Gpu, kernel: &dyn Kernel, class: &[Spec]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    hash_texts(kernel, class, &mut hasher)?;
    (env!("CARGO_PKG_VERSION"), gpu.options().checked).hash(&mut hasher);
    Ok(format!("{} {:016x}", kernel.name(), hasher.finish()))
}

/// Why the variant of `kernel` that this call would run is off on this device, or `None` if it
/// gives right answers there. Errors when the device itself fails (out of memory, lost, no answer
/// in time); nothing is stored then.
pub fn certify(gpu: &Gpu, kernel: &'static dyn Kernel, call: &Call<'_>) -> Result<Option<String>> {
    let class = class_of(kernel, call)?;
    let key = key_of(gpu, kernel, &class)?;
    if let Some(finding) = gpu.verdicts().get(&key) {
        return Ok(verdict(finding));
    }
    let cases = cases_of(kernel, call.op.entry());
    judge_class(gpu, kernel, &class, key, &cases)
}

/// Every class of a kernel that the cases of `entry` and of the registry reach on this device,
/// with its verdict: for `devices` and the tests.
pub fn certify_all(
    gpu: &Gpu,
    kernel: &'static dyn Kernel,
    entry: &'static Entry,
) -> Result<Vec<(String, Option<String>)>> {
    if let Some(lack) = kernel.needs().missing(gpu.caps()) {
        return Ok(vec![(String::new(), Some(format!("the device lacks {lack}")))]);
    }
    let cases = cases_of(kernel, entry);
    let mut classes: Vec<Vec<Spec>> = Vec::new();
    for case in cases.iter().flat_map(|cases| cases.iter()) {
        if let Some(class) = case_class(gpu, kernel, case)
            && !classes.contains(&class)
        {
            classes.push(class);
        }
    }
    let judge = |class: Vec<Spec>| {
        let key = key_of(gpu, kernel, &class)?;
        let found = match gpu.verdicts().get(&key) {
            Some(finding) => verdict(finding),
            None => judge_class(gpu, kernel, &class, key, &cases)?,
        };
        let names: Vec<_> = class.iter().map(ToString::to_string).collect();
        Ok((names.join(" | "), found))
    };
    classes.into_iter().map(judge).collect()
}

fn verdict(finding: String) -> Option<String> {
    (finding != CERTIFIED).then_some(finding)
}

/// The cases of every op that lists the kernel: the calling op's first, since it may be an
/// embedder's own, then the registry's.
fn cases_of(kernel: &dyn Kernel, entry: &'static Entry) -> Vec<Arc<Vec<Case>>> {
    let others = registry().iter().copied().filter(|e| !std::ptr::eq(*e, entry));
    let lists = |e: &&'static Entry| e.kernels.iter().any(|k| k.name() == kernel.name());
    std::iter::once(entry).chain(others).filter(lists).map(built).collect()
}

/// An entry's cases, built once: a first start certifies several classes of each.
fn built(entry: &'static Entry) -> Arc<Vec<Case>> {
    static BUILT: Mutex<BTreeMap<usize, Arc<Vec<Case>>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let key = std::ptr::from_ref(entry) as usize;
    Arc::clone(built.entry(key).or_insert_with(|| Arc::new((entry.cases)())))
}

/// The class of the variant that a case runs, if the kernel takes the case on this device.
fn case_class(gpu: &Gpu, kernel: &dyn Kernel, case: &Case) -> Option<Vec<Spec>> {
    let class = |call: &Call<'_>| kernel.takes(call).then(|| class_of(kernel, call).ok());
    case.with_call(gpu.caps(), class).ok()??
}

fn judge_class(
    gpu: &Gpu,
    kernel: &'static dyn Kernel,
    class: &[Spec],
    key: String,
    cases: &[Arc<Vec<Case>>],
) -> Result<Option<String>> {
    let shared =
        |found: &[Spec]| -> usize { class.iter().zip(found).map(|(a, b)| a.in_common(b)).sum() };
    let (mut exact, mut near) = (Vec::new(), Vec::new());
    for case in cases.iter().flat_map(|cases| cases.iter()) {
        match case_class(gpu, kernel, case) {
            Some(found) if found == class => exact.push(case),
            Some(found) => near.push((shared(&found), case)),
            None => {}
        }
    }
    // Models combine features in ways that no case does, and a case of the class may be too large
    // for the device: then those that share most features stand in.
    near.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
    let step = (exact.len() / CASES).max(1);
    let chosen: Vec<_> = exact
        .iter()
        .step_by(step)
        .chain(&exact)
        .copied()
        .chain(near.into_iter().map(|(_, case)| case))
        .collect();
    let finding = try_cases(gpu, kernel, &chosen)?;
    if finding != CERTIFIED {
        // A device that fails shows as all sorts of errors: only a healthy one is believed.
        gpu.check_health()?;
    }
    gpu.verdicts().set(key, finding.clone());
    Ok(verdict(finding))
}

fn try_cases(gpu: &Gpu, kernel: &'static dyn Kernel, cases: &[&Case]) -> Result<String> {
    let mut passed = 0;
    for case in cases {
        match try_case(gpu, case, kernel, Precision::Fast) {
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
