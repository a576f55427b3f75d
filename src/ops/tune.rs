//! Tuning: time decides among the kernels that fit a call, and what it found is kept.
//!
//! A finding belongs to a *shape class*: op with attributes, dtypes and shapes, those dimensions
//! that vary from step to step at the power of two above them. Its key also hashes the candidates'
//! texts, so an edited kernel is timed again; the file it is kept in belongs to one adapter and
//! driver.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use super::bench::{MeasureOptions, Timer, measure_with};
use super::certify::text_hash;
use super::kernel::Dispatch;
use super::launch::{Compiled, Launch, Slot};
use super::op::{Call, Kernel};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu, Pass};
use crate::tensor::Meta;

/// Most kernels that are timed for one class: those of the least rank.
const TRIALS: usize = 6;
/// A kernel whose first run takes this much longer than the best so far is not timed further.
const HOPELESS: f64 = 1.5;
/// A gain below this is noise: the kernel of lesser rank stays.
const GAIN: f64 = 0.98;

/// Time of one kernel, in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// The kernel.
    pub kernel: &'static str,
    /// Median of a few samples, or the first run alone where that was hopeless.
    pub ns: f64,
}

/// Which kernel is the fastest for a call.
#[derive(Clone, Debug)]
pub struct Pick {
    /// The shape class: op with attributes, operands and results.
    pub class: String,
    /// The kernel of the least rank, which would run untimed.
    pub guess: &'static dyn Kernel,
    /// The fastest kernel.
    pub kernel: &'static dyn Kernel,
    /// What was timed, in the order of rank; empty when an earlier run's finding was used.
    pub timings: Vec<Timing>,
}

/// The shape class of a call, in words.
fn class(call: &Call<'_>) -> String {
    let show = |metas: &mut dyn Iterator<Item = Option<Meta>>| {
        let shown: Vec<_> =
            metas.map(|m| m.map_or_else(|| "-".to_owned(), |m| m.to_string())).collect();
        shown.join(" ")
    };
    let inputs = show(&mut call.inputs.iter().copied());
    format!("{:?} {inputs} -> {}", call.op, show(&mut call.outputs.iter().copied().map(Some)))
}

fn key(call: &Call<'_>, candidates: &[&'static dyn Kernel]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for kernel in candidates {
        (kernel.name(), text_hash(*kernel, call)?).hash(&mut hasher);
    }
    (env!("CARGO_PKG_VERSION"), class(call)).hash(&mut hasher);
    Ok(format!("tuned {} {:016x}", call.op.name(), hasher.finish()))
}

/// The fastest of `candidates` (certified, in the order of their rank) for a call, timed unless an
/// earlier run has. `None` when there is nothing to choose or `deadline` is over; what was timed
/// by then is not kept.
///
/// Errors when the device fails.
pub fn fastest(
    gpu: &Gpu,
    call: &Call<'_>,
    candidates: &[&'static dyn Kernel],
    deadline: Option<Instant>,
) -> Result<Option<Pick>> {
    let candidates = &candidates[..candidates.len().min(TRIALS)];
    if candidates.len() < 2 {
        return Ok(None);
    }
    if let Some(kernel) = found(gpu, call, candidates)? {
        return Ok(Some(Pick {
            class: class(call),
            guess: candidates[0],
            kernel,
            timings: Vec::new(),
        }));
    }
    let late = || deadline.is_some_and(|at| Instant::now() >= at);
    let Some(bench) = Bench::new(gpu, call)? else { return Ok(None) };
    let mut timings: Vec<Timing> = Vec::new();
    let mut best: Option<(f64, &'static dyn Kernel)> = None;
    for kernel in candidates {
        if late() {
            return Ok(None);
        }
        let limit = best.map(|(ns, _)| ns * HOPELESS);
        let ns = bench.time(gpu, call, *kernel, limit)?;
        timings.push(Timing { kernel: kernel.name(), ns });
        if best.is_none_or(|(least, _)| ns < least * GAIN) {
            best = Some((ns, *kernel));
        }
    }
    let Some((_, kernel)) = best else { return Ok(None) };
    gpu.verdicts().set(key(call, candidates)?, kernel.name().to_owned());
    Ok(Some(Pick { class: class(call), guess: candidates[0], kernel, timings }))
}

/// What an earlier run found to be the fastest of `candidates` for a call.
pub fn found(
    gpu: &Gpu,
    call: &Call<'_>,
    candidates: &[&'static dyn Kernel],
) -> Result<Option<&'static dyn Kernel>> {
    let candidates = &candidates[..candidates.len().min(TRIALS)];
    let name = gpu.verdicts().get(&key(call, candidates)?);
    Ok(name.and_then(|name| candidates.iter().find(|k| k.name() == name).copied()))
}

/// Buffers to time kernels on. Their contents do not matter to the time: all are zero.
struct Bench {
    /// By operand and plane.
    inputs: Vec<Vec<Buffer>>,
    outputs: Vec<Buffer>,
    timer: Timer,
}

impl Bench {
    /// `None` when the operands do not fit the device beside what is there already.
    fn new(gpu: &Gpu, call: &Call<'_>) -> Result<Option<Self>> {
        let buffer = |name: &str, bytes: usize| match bytes as u64 {
            bytes if bytes > gpu.caps().max_binding => Ok(None),
            _ => match gpu.buffer(name, bytes) {
                Ok(buffer) => Ok(Some(buffer)),
                Err(Error::OutOfMemory(_)) => Ok(None),
                Err(error) => Err(error),
            },
        };
        let mut inputs = Vec::new();
        for meta in call.inputs {
            let planes = meta.iter().flat_map(|m| (0..m.planes()).map(|p| m.plane_bytes(p)));
            let planes = planes.map(|bytes| buffer("tuning operand", bytes));
            match planes.collect::<Result<Option<Vec<_>>>>()? {
                None => return Ok(None),
                Some(found) => inputs.push(found),
            }
        }
        let mut outputs = Vec::new();
        for &meta in call.outputs {
            match buffer("tuning result", meta.bytes())? {
                None => return Ok(None),
                Some(found) => outputs.push(found),
            }
        }
        Ok(Some(Self { inputs, outputs, timer: Timer::new(gpu)? }))
    }

    /// Nanoseconds of one run of a kernel; of its second run alone when that is over `limit`.
    fn time(
        &self,
        gpu: &Gpu,
        call: &Call<'_>,
        kernel: &'static dyn Kernel,
        limit: Option<f64>,
    ) -> Result<f64> {
        let scratch = match kernel.scratch(call)? {
            0 => None,
            bytes => Some(gpu.buffer("tuning scratch", bytes)?),
        };
        let find = |slot, _part| match slot {
            Slot::Input(i) => self.inputs.get(i)?.first(),
            Slot::Plane(i, plane) => self.inputs.get(i)?.get(plane),
            Slot::Output(o) => self.outputs.get(o),
            Slot::Scratch => scratch.as_ref(),
        };
        let launch = Compiled::new(gpu, kernel, call)?.bind(gpu, call.op, &[None], find)?;
        let mut dispatches = Vec::new();
        launch.prepare(call, &mut dispatches)?;
        let run = |repeats| self.run(&launch, &dispatches, repeats);
        // The first run pays for lazy work of the driver.
        run(1)?;
        let once = run(1)?;
        if limit.is_some_and(|limit| once > limit) {
            return Ok(once);
        }
        let options = MeasureOptions { repetitions: 3, min_time: Duration::from_millis(2) };
        Ok(measure_with(&options, self.timer.clock(), run)?.median_ns)
    }

    fn run(&self, launch: &Launch, dispatches: &[Dispatch], repeats: u64) -> Result<f64> {
        self.timer.time(&|pass: &mut Pass<'_>| launch.record(pass, dispatches), repeats)
    }
}
