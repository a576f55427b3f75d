//! Kernels on machines that are not there: every case of an op on every kernel that fits, run by
//! [`crate::simt`], held to the op's reference, and searched for races and the like.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::imagined::imagined;
use super::kernel::{Dispatch, Precision, Stage};
use super::launch::{Slot, operand};
use super::op::{Call, Case, Entry, Kernel};
use super::verify::{Outcome, judge};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Shader, ShaderSource, Spec, load};
use crate::simt::{Buffer, Cost, Findings, Kind, Place, Program, Report, Setting, Source};
use crate::tensor::Tensor;

/// What to check, and on what.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Subgroup sizes; `None` is a machine without subgroups.
    pub subgroups: Vec<Option<u32>>,
    /// Sides of cooperative matrices, where subgroups of a size have them.
    pub fragments: Vec<u32>,
    /// Only kernels of these names; empty for all.
    pub kernels: Vec<String>,
    /// Only cases whose label has these words.
    pub case: Option<String>,
    /// Whether to count what each kernel would cost.
    pub metered: bool,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            subgroups: vec![None, Some(4), Some(8), Some(16), Some(32), Some(64)],
            fragments: vec![8, 16],
            kernels: Vec::new(),
            case: None,
            metered: false,
        }
    }
}

/// One case on one kernel on one machine.
#[derive(Debug)]
pub struct Checked {
    /// The op.
    pub op: &'static str,
    /// The kernel.
    pub kernel: &'static str,
    /// The machine.
    pub machine: String,
    /// The case.
    pub case: String,
    /// Whether its results are right.
    pub outcome: Outcome,
    /// What the checker saw.
    pub report: Report,
}

impl Checked {
    /// Whether its results are right and nothing was found, or it was not run.
    pub fn is_clean(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed(_)) && self.report.findings.is_empty()
    }
}

/// Checks cases; keeps what it has lowered, since many cases share a variant.
#[derive(Default)]
pub struct Checker {
    programs: Mutex<HashMap<(ShaderSource, Spec), Arc<Program>>>,
    done: Mutex<HashMap<Key, (Outcome, Report)>>,
    /// Called on each module before it is lowered.
    #[allow(clippy::type_complexity)]
    edit: Option<Box<dyn Fn(&Stage, &Spec) -> Result<Shader> + Send + Sync>>,
}

/// Checks every case of an op; see [`Checker::check_entry`].
pub fn check_entry(entry: &'static Entry, options: &CheckOptions) -> Vec<Checked> {
    Checker::default().check_entry(entry, options, |_| true)
}

/// Whether an operand has values whose square f32 does not hold.
fn is_extreme(case: &Case) -> bool {
    let floats = case.inputs.iter().flatten().filter_map(|t| t.as_f32().ok());
    floats.flatten().any(|v| v.is_finite() && v.abs() > 1.8e19)
}

/// A stage that is ready to be run.
struct Ready {
    spec: Spec,
    program: Arc<Program>,
    dispatch: Dispatch,
}

/// What tells a run from all others: case, kernel, and per stage text, parameters, grid and, where
/// it has a say, the size of subgroups. Machines that differ in nothing of it need no second run.
type Key = (String, &'static str, Vec<(Spec, Vec<u8>, [u32; 3], Option<u32>)>, bool);

fn key_of(
    call: &Call<'_>,
    case: &Case,
    kernel: &dyn Kernel,
    stages: &[Ready],
    metered: bool,
) -> Key {
    let stage = |s: &Ready| {
        let params = s.dispatch.params.as_slice().to_vec();
        let matters = s.program.needs_subgroups() || metered;
        let subgroup = call.caps.subgroup.filter(|_| matters);
        (s.spec.clone(), params, s.dispatch.grid, subgroup)
    };
    let case = format!("{} {}", case.op.name(), case.label);
    (case, kernel.name(), stages.iter().map(stage).collect(), metered)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A case on a kernel on a machine.
type Job<'a> = (Arc<Caps>, &'static dyn Kernel, &'a Case);

fn jobs<'a>(entry: &'static Entry, cases: &'a [Case], options: &CheckOptions) -> Vec<Job<'a>> {
    let wanted = |case: &&Case| {
        let words = options.case.iter().flat_map(|words| words.split_whitespace());
        words.into_iter().all(|word| case.label.contains(word))
    };
    let cases: Vec<_> = cases.iter().filter(wanted).collect();
    let named = |kernel: &&&'static dyn Kernel| {
        options.kernels.is_empty() || options.kernels.iter().any(|name| kernel.name() == name)
    };
    let machines = options.subgroups.iter().flat_map(|&s| imagined(s, &options.fragments));
    let mut jobs = Vec::new();
    for caps in machines.map(Arc::new) {
        for kernel in entry.kernels.iter().filter(named).copied() {
            jobs.extend(cases.iter().map(|case| (Arc::clone(&caps), kernel, *case)));
        }
    }
    jobs
}

/// Barriers that were reached and kept nothing apart, over all that was checked.
pub fn idle_barriers(checked: &[Checked]) -> BTreeSet<Place> {
    let all = |of: fn(&Report) -> &BTreeSet<Place>| -> BTreeSet<Place> {
        checked.iter().flat_map(|c| of(&c.report).iter().cloned()).collect()
    };
    let (ran, needed) = (all(|r| &r.ran), all(|r| &r.needed));
    ran.difference(&needed).cloned().collect()
}

impl Checker {
    /// A checker that loads shaders in another way, for tests of the checker.
    pub fn with_loader(
        load: impl Fn(&Stage, &Spec) -> Result<Shader> + Send + Sync + 'static,
    ) -> Self {
        Self { edit: Some(Box::new(load)), ..Self::default() }
    }

    /// Every case of an op on every machine of the options and every kernel that it fits, in the
    /// order of machines, kernels and cases. `go_on` is told of each that is done and may stop.
    pub fn check_entry(
        &self,
        entry: &'static Entry,
        options: &CheckOptions,
        go_on: impl Fn(usize) -> bool + Sync,
    ) -> Vec<Checked> {
        self.check_cases(entry, &(entry.cases)(), options, go_on)
    }

    /// The same with other cases than the op's own.
    pub fn check_cases(
        &self,
        entry: &'static Entry,
        cases: &[Case],
        options: &CheckOptions,
        go_on: impl Fn(usize) -> bool + Sync,
    ) -> Vec<Checked> {
        let run = |(caps, kernel, case): &Job<'_>| {
            let checked = self.check_case(caps, case, *kernel, options.metered);
            let checked = Checked { op: entry.name, ..checked };
            go_on(1).then_some(checked)
        };
        jobs(entry, cases, options).par_iter().map(run).while_some().collect()
    }

    /// How many runs that will be.
    pub fn count(&self, entry: &'static Entry, cases: &[Case], options: &CheckOptions) -> usize {
        jobs(entry, cases, options).len()
    }

    /// One case on one kernel.
    pub fn check_case(
        &self,
        caps: &Caps,
        case: &Case,
        kernel: &'static dyn Kernel,
        metered: bool,
    ) -> Checked {
        let tried = self.try_case(caps, case, kernel, metered);
        let (outcome, report) =
            tried.unwrap_or_else(|e| (Outcome::Failed(e.to_string()), Report::default()));
        Checked {
            op: case.op.name(),
            kernel: kernel.name(),
            machine: caps.name.clone(),
            case: case.label.clone(),
            outcome,
            report,
        }
    }

    fn try_case(
        &self,
        caps: &Caps,
        case: &Case,
        kernel: &'static dyn Kernel,
        metered: bool,
    ) -> Result<(Outcome, Report)> {
        let not_run = |why: String| Ok((Outcome::NotRun(why), Report::default()));
        if let Some(lack) = kernel.needs().missing(caps) {
            return not_run(format!("the machine lacks {lack}"));
        }
        if kernel.precision() > Precision::Exact && !case.fits_f16() {
            return not_run("values beyond f16".to_owned());
        }
        case.with_call(caps, |call| {
            if !kernel.takes(call) {
                return not_run("the variant does not take these shapes".to_owned());
            }
            let stages = self.stages(call, kernel)?;
            let key = key_of(call, case, kernel, &stages, metered);
            if let Some(known) = lock(&self.done).get(&key) {
                return Ok(known.clone());
            }
            let (results, mut report) = run(call, case, kernel, &stages, metered)?;
            if is_extreme(case) {
                // What becomes of infinities is what such a case is about.
                report.findings = report.findings.without(Kind::NonFinite);
            }
            let done = (judge(case, &results, kernel.precision())?, report);
            lock(&self.done).insert(key, done.clone());
            Ok(done)
        })?
    }

    /// The kernel's dispatches, lowered.
    fn stages(&self, call: &Call<'_>, kernel: &dyn Kernel) -> Result<Vec<Ready>> {
        let ready = |(i, stage): (usize, &Stage)| {
            let spec = kernel.spec(i, call)?;
            let program = self.program(stage, &spec)?;
            Ok(Ready { spec, program, dispatch: kernel.dispatch(i, call)? })
        };
        kernel.stages().iter().enumerate().map(ready).collect()
    }

    fn program(&self, stage: &Stage, spec: &Spec) -> Result<Arc<Program>> {
        let key = (stage.source, spec.clone());
        if let Some(known) = lock(&self.programs).get(&key) {
            return Ok(Arc::clone(known));
        }
        let shader = match &self.edit {
            Some(edit) => edit(stage, spec)?,
            None => load(stage.source, spec)?,
        };
        shader.check_params(stage.params)?;
        let program = Arc::new(Program::new(&Source::from(shader))?);
        Ok(Arc::clone(lock(&self.programs).entry(key).or_insert(program)))
    }
}

/// Runs the kernel's stages one after the other; the report is of all.
fn run(
    call: &Call<'_>,
    case: &Case,
    kernel: &dyn Kernel,
    stages: &[Ready],
    metered: bool,
) -> Result<(Vec<Tensor>, Report)> {
    let op = call.op;
    let planes = |tensor: &Tensor| -> Vec<Buffer> {
        (0..tensor.meta().planes()).map(|p| Buffer::new(tensor.plane(p))).collect()
    };
    let inputs: Vec<Vec<Buffer>> =
        case.inputs.iter().map(|t| t.as_ref().map_or_else(Vec::new, planes)).collect();
    let result = |(o, meta): (usize, &crate::tensor::Meta)| {
        // A result in place starts as its operand.
        let operand = op.in_place().iter().find(|(result, _)| *result == o);
        match operand.and_then(|&(_, i)| case.inputs.get(i)?.as_ref()) {
            Some(start) => Buffer::new(start.as_bytes()),
            None => Buffer::poison(meta.bytes()),
        }
    };
    let outputs: Vec<Buffer> = call.outputs.iter().enumerate().map(result).collect();
    let scratch = Buffer::poison(kernel.scratch(call)?);
    // What an absent operand's binding refers to: whoever reads it, reads out of range.
    let nothing = Buffer::poison(0);
    let find = |name: &str| {
        if name == "scratch" {
            return Some(&scratch);
        }
        if let Some(o) = op.outputs().iter().position(|n| *n == name) {
            return outputs.get(o);
        }
        let (i, plane) = match operand(op.inputs(), name)? {
            Slot::Input(i) => (i, 0),
            Slot::Plane(i, plane) => (i, plane),
            Slot::Output(_) | Slot::Scratch => return None,
        };
        inputs.get(i).and_then(|planes| planes.get(plane)).or(Some(&nothing))
    };
    let mut report = Report::default();
    for (i, Ready { program, dispatch, .. }) in stages.iter().enumerate() {
        let setting = Setting { grid: dispatch.grid, subgroup: call.caps.subgroup, metered };
        let seen = program.run(find, dispatch.params.as_slice(), setting)?;
        let stated = kernel.rounds(i, call)?;
        if u64::from(seen.rounds) > stated {
            let message = format!("runs {} rounds of loops and states {stated}", seen.rounds);
            return Err(Error::kernel(program.name(), message));
        }
        report.merge(seen);
    }
    let tensor = |(buffer, meta): (&Buffer, &crate::tensor::Meta)| {
        Tensor::from_le_bytes(meta.shape, meta.dtype, &buffer.bytes()[..meta.bytes()])
    };
    let results = outputs.iter().zip(call.outputs).map(tensor).collect::<Result<_>>()?;
    Ok((results, report))
}

/// Findings of everything that was checked, with a note for every idle barrier; and by kernel what
/// it cost.
pub fn summary(checked: &[Checked]) -> Findings {
    let mut report = Report::default();
    for one in checked {
        report.merge(one.report.clone());
    }
    report.with_notes()
}

/// Costs by kernel, cases together.
pub fn costs(checked: &[Checked]) -> Vec<(&'static str, Cost)> {
    let mut all: Vec<(&'static str, Cost)> = Vec::new();
    for one in checked {
        let Some(cost) = &one.report.cost else { continue };
        match all.iter_mut().find(|(kernel, _)| *kernel == one.kernel) {
            Some((_, sum)) => sum.merge(cost.clone()),
            None => all.push((one.kernel, cost.clone())),
        }
    }
    all
}
