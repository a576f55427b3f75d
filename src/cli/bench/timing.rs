//! One work on one device: verified, then timed.

use std::time::Instant;

use super::baseline::{self, Naive};
use super::rows::{Outcome, Row};
use super::work::Work;
use crate::cli::context::Context;
use crate::error::{Error, Result};
use crate::gpu::{Clock, Gpu, Pass};
use crate::graph::{PrecisionMode, Tune};
use crate::ops::bench::{MeasureOptions, Timer, measure_with};
use crate::ops::{
    Args as OpArgs, Call, Precision, Prepared, RunOptions, Tolerance, candidates, found, run_cpu,
};
use crate::tensor::{Sizes as Symbols, Tensor};

/// What to time a work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// The kernel that the op chooses.
    Auto,
    /// A kernel by name.
    Kernel(&'static str),
    /// The work made of several ops.
    Naive,
}

impl Variant {
    /// Its name before anything was chosen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel(name) => name,
            Self::Naive => baseline::NAME,
        }
    }
}

/// The variants to measure. Errors when the op has no variant of the name asked for.
pub(super) fn variants(
    work: &Work,
    asked: &str,
    baseline: bool,
    kernels: bool,
) -> Result<Vec<Variant>> {
    let known = || work.instance.entry().kernels.iter().map(|kernel| kernel.name());
    let naive = work.heads.is_some() && asked == baseline::NAME;
    let mut variants = match asked {
        _ if !kernels && (baseline || naive) => {
            let message = "the baseline runs kernels: --device cpu has none".to_owned();
            return Err(Error::Argument(message));
        }
        "auto" => vec![Variant::Auto],
        "all" if !kernels => vec![Variant::Auto],
        _ if !kernels => {
            let message = format!("--variants {asked}: the CPU path has one route for every op");
            return Err(Error::Argument(message));
        }
        "all" => known().map(Variant::Kernel).collect(),
        _ if naive => Vec::new(),
        name => {
            known().find(|k| *k == name).map(|k| vec![Variant::Kernel(k)]).ok_or_else(|| {
                let known: Vec<_> = known().collect();
                Error::Argument(format!(
                    "--variants {name}: {} has no such variant; there are {}, and all or auto",
                    work.op,
                    known.join(", ")
                ))
            })?
        }
    };
    if baseline || naive {
        variants.push(Variant::Naive);
    }
    Ok(variants)
}

/// A variant ready on a device.
enum Program {
    Kernel(Box<Prepared>),
    Naive(Box<Naive>),
}

impl Program {
    fn record(&self, pass: &mut Pass<'_>) {
        match self {
            Self::Kernel(prepared) => prepared.record(pass),
            Self::Naive(naive) => naive.record(pass),
        }
    }

    fn read(&self, gpu: &Gpu) -> Result<Vec<Tensor>> {
        match self {
            Self::Kernel(prepared) => prepared.read(gpu),
            Self::Naive(naive) => naive.read(gpu),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Kernel(prepared) => prepared.kernel().name(),
            Self::Naive(_) => baseline::NAME,
        }
    }

    /// The error that its arithmetic may make.
    fn nmse(&self) -> f64 {
        match self {
            Self::Kernel(prepared) => prepared.kernel().precision().nmse(),
            Self::Naive(naive) => naive.nmse,
        }
    }

    /// Bytes that it needs besides operands and results.
    fn extra(&self, work: &Work, gpu: &Gpu) -> Result<u64> {
        match self {
            Self::Kernel(prepared) => {
                let scratch = |call: &Call<'_>| prepared.kernel().scratch(call);
                Ok(work.with_call(gpu.caps(), scratch)?? as u64)
            }
            Self::Naive(naive) => Ok(naive.extra),
        }
    }
}

/// Operands and what the CPU path makes of them.
pub(super) type Ready = (Vec<Option<Tensor>>, Vec<Tensor>);

/// One shape on one device.
pub(super) struct Bench<'a> {
    pub context: &'a Context,
    pub gpu: Option<&'a Gpu>,
    pub work: &'a Work,
    pub options: &'a MeasureOptions,
}

impl Bench<'_> {
    /// Verifies and times one variant; `ready` keeps what other variants can use. Errors only
    /// when nothing more can be measured.
    pub fn row(&self, variant: Variant, ready: &mut Option<Ready>) -> Result<Row> {
        let work = self.work;
        let outcome = self.outcome(variant, ready);
        if let Some(gpu) = self.gpu {
            gpu.check_alive()?;
        }
        let (name, outcome) = match outcome {
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                let failed = Outcome::Failed { reason: error.to_string(), error: None };
                (variant.name().to_owned(), failed)
            }
            Ok(found) => found,
        };
        let (op, shape, dtype) = (work.op.to_owned(), work.shape.clone(), work.stored.clone());
        let pick = self.pick()?.is_some_and(|kernel| kernel == name);
        let named = if self.gpu.is_some() { format!(" --variants {name}") } else { String::new() };
        let repeat = repeat(self.context, &format!("{}{named}", work.options), self.options);
        let curve = work.curve.clone();
        Ok(Row { op, variant: name, pick, shape, dtype, repeat, curve, start: None, outcome })
    }

    /// The precision that the policy means for these operands: fast for 16-bit ones where
    /// the device multiplies such matrices.
    fn precision(&self) -> Precision {
        let matrices = self.gpu.is_some_and(|gpu| gpu.caps().fragment().is_some());
        match self.context.policy().precision {
            PrecisionMode::Fast => Precision::Fast,
            PrecisionMode::Auto if matrices && self.work.halves => Precision::Fast,
            _ => Precision::Exact,
        }
    }

    /// The kernel that models would use for this shape: by tuning, where it has found one, else by
    /// rank. `None` on the CPU, and where none takes the shape.
    fn pick(&self) -> Result<Option<&'static str>> {
        let Some(gpu) = self.gpu else { return Ok(None) };
        let call = |call: &Call<'_>| -> Result<Option<&'static str>> {
            let all = candidates(call, self.precision());
            let tuned = match self.context.policy().tune {
                Tune::Off => None,
                _ => found(gpu, call, &all)?,
            };
            Ok(tuned.or(all.first().copied()).map(|kernel| kernel.name()))
        };
        self.work.with_call(gpu.caps(), call)?
    }

    fn outcome(&self, variant: Variant, ready: &mut Option<Ready>) -> Result<(String, Outcome)> {
        let Some(gpu) = self.gpu else {
            return Ok(("cpu".to_owned(), self.cpu()?));
        };
        let name = variant.name().to_owned();
        // What the op, the device or the memory does not allow is no failure of the kernel.
        let not_run = |name: &str, error: Error| match error {
            Error::Op { message, .. } => Ok((name.to_owned(), Outcome::NotRun(message))),
            Error::Missing { .. } | Error::OutOfMemory(_) | Error::Argument(_) => {
                Ok((name.to_owned(), Outcome::NotRun(error.to_string())))
            }
            other => Err(other),
        };
        if let Err(error) = self.work.check_fits(gpu.caps()) {
            return not_run(&name, error);
        }
        let (inputs, expected) = match ready.take().map_or_else(|| self.prepare(), Ok) {
            Ok(found) => &*ready.insert(found),
            Err(error) => return not_run(&name, error),
        };
        let program = match self.program(gpu, variant, inputs) {
            Ok(program) => program,
            Err(error) => return not_run(&name, error),
        };
        let name = program.name().to_owned();
        let failed = |reason: String, error| (name.clone(), Outcome::Failed { reason, error });
        let mut commands = gpu.commands(&name);
        program.record(&mut commands.pass());
        let got = match gpu.submit(commands).and_then(|()| program.read(gpu)) {
            Ok(got) => got,
            Err(error) => return Ok(failed(error.to_string(), None)),
        };
        let stored = if self.work.narrow { Precision::Fast.nmse() } else { 0.0 };
        let limit = program.nmse().max(stored);
        let error = distance(&got, expected)?;
        if error.is_nan() || error > limit {
            let reason = format!("NMSE {error:.1e} against the CPU path, allowed {limit:.0e}");
            return Ok(failed(reason, Some(error)));
        }
        let timer = Timer::new(gpu)?;
        let time = measure_with(self.options, timer.clock(), |repeats| {
            self.context.check_cancelled()?;
            timer.time(&|pass: &mut Pass<'_>| program.record(pass), repeats)
        })?;
        let (cost, extra) = (self.work.cost()?, Some(program.extra(self.work, gpu)?));
        Ok((name.clone(), Outcome::Measured { time, cost, error, extra }))
    }

    fn program(&self, gpu: &Gpu, variant: Variant, inputs: &[Option<Tensor>]) -> Result<Program> {
        let (work, precision) = (self.work, self.precision());
        let kernel = match (variant, work.heads) {
            (Variant::Naive, Some(heads)) => {
                let tuned = self.context.policy().tune != Tune::Off;
                let naive = Naive::new(gpu, heads, inputs, precision, tuned)?;
                return Ok(Program::Naive(Box::new(naive)));
            }
            (Variant::Kernel(name), _) => Some(name),
            _ => None,
        };
        let options =
            RunOptions { kernel, precision, narrow: work.narrow, ..RunOptions::default() };
        let symbols = Symbols::default();
        let prepared = Prepared::new(gpu, &*work.instance, inputs, &symbols, options)?;
        Ok(Program::Kernel(Box::new(prepared)))
    }

    fn prepare(&self) -> Result<Ready> {
        let inputs = self.work.draw()?;
        let expected = run_cpu(&*self.work.instance, &inputs, &Symbols::default())?;
        Ok((inputs, expected))
    }

    /// The CPU path, against the f64 reference.
    fn cpu(&self) -> Result<Outcome> {
        if self.work.narrow {
            return Ok(Outcome::NotRun("the CPU path stores results in f32".to_owned()));
        }
        let (inputs, got) = match self.prepare() {
            Ok(ready) => ready,
            Err(error) => return Ok(Outcome::NotRun(error.to_string())),
        };
        let op = &*self.work.instance;
        let symbols = Symbols::default();
        let tensors: Vec<_> = inputs.iter().map(Option::as_ref).collect();
        let args = OpArgs { op: op.name(), tensors: &tensors, sizes: &symbols };
        let error = distance(&got, &op.reference(&args)?)?;
        if error.is_nan() || error > 1e-10 {
            let reason = format!("NMSE {error:.1e} against the reference, allowed 1e-10");
            return Ok(Outcome::Failed { reason, error: Some(error) });
        }
        let time = measure_with(self.options, Clock::Host, |repeats| {
            self.context.check_cancelled()?;
            let start = Instant::now();
            for _ in 0..repeats {
                std::hint::black_box(run_cpu(op, &inputs, &symbols)?);
            }
            Ok(start.elapsed().as_nanos() as f64)
        })?;
        Ok(Outcome::Measured { time, cost: self.work.cost()?, error, extra: None })
    }
}

/// The largest normalised mean squared error of the results. With operands of order one a
/// single wrong element shows in it: 1e-10 is one wrong value in 10^10.
fn distance(got: &[Tensor], expected: &[Tensor]) -> Result<f64> {
    let any = Tolerance { nmse: f64::INFINITY, abs: f64::MAX, rel: 0.0, bound: None };
    let mut worst = 0.0;
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let found = any.compare(got, expected, i)?.nmse;
        // A NaN, once found, stays: it is not smaller than anything.
        if found.is_nan() || found > worst {
            worst = found;
        }
    }
    Ok(worst)
}

/// The command line that repeats a row of this subcommand with these options.
pub(super) fn repeat(context: &Context, options: &str, how: &MeasureOptions) -> String {
    let mut line = format!("tilewright bench {options} -r {}", how.repetitions);
    if let Some(device) = context.asked_device() {
        line += &format!(" --device {}", quoted(&device));
    }
    let policy = context.policy();
    match policy.precision {
        PrecisionMode::Auto => {}
        PrecisionMode::Exact => line += " --precision exact",
        PrecisionMode::Fast => line += " --precision fast",
    }
    match policy.tune {
        Tune::Quick => {}
        Tune::Off => line += " --tune off",
        Tune::Full => line += " --tune full",
    }
    for (op, name) in &policy.force {
        line += &format!(" --kernel {}", quoted(&format!("{op}={name}")));
    }
    line
}

/// A word as a shell reads it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("models/bert"), "models/bert");
        assert_eq!(quoted("NVIDIA H200 (x)"), "'NVIDIA H200 (x)'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
