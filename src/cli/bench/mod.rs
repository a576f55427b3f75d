//! `bench`: how fast is a kernel on this device, and is it right? Every variant is compared with
//! the CPU path on the operands it is then timed with; a wrong one gets no time.

mod html;
mod model;
mod report;
mod rows;
mod sizes;
mod work;

use std::path::PathBuf;
use std::time::Instant;

use crate::engine::Device;
use crate::error::{Error, Result};
use crate::format;
use crate::gpu::{Choice, Clock, Gpu};
use crate::graph::{PrecisionMode, Tune};
use crate::ops::bench::{MeasureOptions, Roofline, Timer, measure_with};
use crate::ops::{
    Args as OpArgs, Call, Precision, Prepared, RunOptions, Tolerance, candidates, found, run_cpu,
};
use crate::tensor::{DType, Sizes as Symbols, Tensor};

use super::context::{Context, failed};
use report::{Format, Report};
use rows::{Outcome, Place, Row};
use sizes::{Products, Sizes, combinations};
use work::{Heads, Norm, Work};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
struct How {
    /// Kernel variants: auto (the one that models use), all, or a name
    #[arg(long, global = true, default_value = "auto", value_name = "all|auto|NAME")]
    variants: String,
    /// Timed samples of each row
    #[arg(short, long, global = true, default_value = "10",
        value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
    /// Form of the answer: md, or jsonl with --json
    #[arg(short, long, global = true, value_enum)]
    output: Option<Format>,
    /// Fail when the kernel that models would use takes so many percent longer than the fastest;
    /// with --variants all
    #[arg(long, global = true, value_name = "PERCENT")]
    assert: Option<f64>,
    /// Also write a page with a table and bars
    #[arg(long, global = true, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
#[command(after_help = "Sizes are numbers, lists (128,512) and ranges (64-4096*2, 64-256+64); \
                  every combination of a command's lists is measured.")]
enum What {
    /// y [m, n] = x [m, k] weight^T
    Matmul(MatmulArgs),
    /// Matrix times vector, the product of token-by-token generation
    Gemv(GemvArgs),
    /// Normalisation of rows
    Norm(NormArgs),
    /// Fused attention; shapes read batch x heads x tokens x dim
    Attention(AttentionArgs),
    /// Forward passes of a model; shapes read batch x tokens
    Model(model::ModelArgs),
}

#[derive(clap::Args)]
struct MatmulArgs {
    /// m = n = k [default without --mnk: 512,1024]
    #[arg(long)]
    size: Option<Sizes>,
    /// Rows, columns and depth, such as 128x3072x768
    #[arg(long, value_name = "MxNxK")]
    mnk: Option<Products<3>>,
}

#[derive(clap::Args)]
struct GemvArgs {
    /// Columns and depth
    #[arg(long, value_name = "NxK", default_value = "768x3072,4096x4096")]
    nk: Products<2>,
    /// Vectors at once
    #[arg(long, default_value = "1")]
    m: Sizes,
}

#[derive(clap::Args)]
struct NormArgs {
    /// Which normalisation
    #[arg(long, value_enum, default_value = "layer_norm")]
    norm: Norm,
    #[arg(long, default_value = "4096")]
    rows: Sizes,
    #[arg(long, default_value = "768")]
    cols: Sizes,
}

#[derive(clap::Args)]
struct AttentionArgs {
    #[arg(long, default_value = "1")]
    batch: Sizes,
    /// Query heads
    #[arg(long, default_value = "12")]
    heads: Sizes,
    /// Key and value heads [default: as many as query heads]
    #[arg(long)]
    kv_heads: Option<Sizes>,
    /// Elements per head
    #[arg(long, default_value = "64")]
    dim: Sizes,
    /// Tokens
    #[arg(long, default_value = "128,512")]
    seq: Sizes,
    /// Queries, the last of the tokens [default: all of them]; 1 is a step of generation
    #[arg(long)]
    queries: Option<Sizes>,
    /// Whether a query sees only tokens up to its own
    #[arg(long, value_enum, default_value = "no")]
    causal: Causal,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Causal {
    No,
    Yes,
    Both,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let works = works(&args.what, context.weight_dtype()?)?;
    let gpu = if context.forced_cpu() { None } else { Some(context.gpu()?) };
    let variants = works
        .iter()
        .map(|work| variants(work, &args.how.variants, gpu.is_some()))
        .collect::<Result<Vec<_>>>()?;
    let total = variants.iter().map(Vec::len).sum::<usize>();
    let bar = context.bar("bench", total as u64, false);
    bar.set_message("the device's limits");
    let place = match &gpu {
        Some(gpu) => Place {
            device: gpu.caps().name.clone(),
            driver: gpu.caps().driver.clone(),
            roofline: Some(Roofline::of(gpu)?),
        },
        None => Place { device: "cpu".to_owned(), driver: "CPU path".to_owned(), roofline: None },
    };
    let format = match (args.how.output, context.json) {
        (Some(format), _) => format,
        (None, true) => Format::Jsonl,
        (None, false) => Format::Md,
    };
    let options = MeasureOptions {
        repetitions: usize::from(args.how.repetitions),
        ..MeasureOptions::default()
    };
    // What was measured so far is printed at Ctrl-C, once the row at hand has ended.
    context.answers_late();
    let mut report = Report::new(context, format, args.how.html, place);
    let mut stopped = None;
    if let What::Model(args) = &args.what {
        let device = match &gpu {
            Some(gpu) => context.place_on(Choice::Gpu(gpu.clone()))?,
            None => Device::cpu(),
        };
        let mut push = |row| bar.suspend(|| report.push(row));
        stopped = model::run(context, args, &device, &options, &mut push).err();
    }
    'works: for (work, variants) in works.iter().zip(&variants) {
        // Operands and the expected results are shared by the variants of one shape.
        let mut ready = None;
        for variant in variants {
            if context.is_cancelled() {
                stopped = Some(Error::Cancelled);
                break 'works;
            }
            bar.set_message(format!("{} {} {}", work.op, work.shape, variant.unwrap_or("auto")));
            let row = Bench { context, gpu: gpu.as_ref(), work, options: &options };
            let row = row.row(*variant, &mut ready);
            match row {
                Ok(row) => bar.suspend(|| report.push(row))?,
                // Nothing more can be measured, but what was is worth printing.
                Err(error) => {
                    stopped = Some(error);
                    break 'works;
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let lagging = args.how.assert.and_then(|percent| report.lagging(percent));
    report.finish()?;
    match (stopped, lagging) {
        (Some(error), _) => Err(error),
        (None, Some(why)) => failed(why),
        (None, None) => Ok(()),
    }
}

/// Every combination of the sizes given.
fn works(what: &What, dtype: Option<format::Format>) -> Result<Vec<Work>> {
    let weight = dtype.map_or(DType::F32, format::Format::dtype);
    if matches!(what, What::Norm(_) | What::Attention(_)) && weight != DType::F32 {
        let message = format!("--dtype {weight}: only matmul and gemv store weights in it");
        return Err(Error::Argument(message));
    }
    match what {
        What::Matmul(args) => {
            let square = |sizes: &Sizes| sizes.0.iter().map(|&n| [n, n, n]).collect();
            let mut shapes: Vec<[usize; 3]> = args.size.as_ref().map(square).unwrap_or_default();
            shapes.extend(args.mnk.iter().flat_map(|products| &products.0));
            if shapes.is_empty() {
                shapes.extend([[512; 3], [1024; 3]]);
            }
            shapes.into_iter().map(|mnk| Work::matmul("matmul", mnk, weight)).collect()
        }
        What::Gemv(args) => {
            let vectors = |nk: &[usize; 2]| args.m.0.iter().map(|&m| [m, nk[0], nk[1]]).collect();
            let shapes = args.nk.0.iter().flat_map::<Vec<_>, _>(vectors);
            shapes.map(|mnk| Work::matmul("gemv", mnk, weight)).collect()
        }
        What::Norm(args) => {
            let shapes = combinations([&args.rows.0, &args.cols.0])?.into_iter();
            shapes.map(|[rows, cols]| Work::norm(args.norm, rows, cols)).collect()
        }
        What::Attention(args) => attentions(args)?.into_iter().map(Work::attention).collect(),
        // Measured by its own loop.
        What::Model(_) => Ok(Vec::new()),
    }
}

fn attentions(args: &AttentionArgs) -> Result<Vec<Heads>> {
    let causal: &[usize] = match args.causal {
        Causal::No => &[0],
        Causal::Yes => &[1],
        Causal::Both => &[0, 1],
    };
    // Sizes are positive: 0 stands for one that was not given.
    let given = |sizes: &Option<Sizes>| sizes.as_ref().map_or(vec![0], |sizes| sizes.0.clone());
    let (kv_heads, queries) = (given(&args.kv_heads), given(&args.queries));
    let Sizes(batch) = &args.batch;
    let (Sizes(heads), Sizes(dim), Sizes(seq)) = (&args.heads, &args.dim, &args.seq);
    let all = combinations([batch, heads, &kv_heads, dim, seq, &queries, causal])?;
    let or = |size: usize, default: usize| if size == 0 { default } else { size };
    let one = |[batch, heads, kv_heads, dim, keys, queries, causal]: [usize; 7]| {
        if queries > keys {
            let message = format!("--queries {queries} exceeds --seq {keys}");
            return Err(Error::Argument(message));
        }
        let (kv_heads, queries, causal) = (or(kv_heads, heads), or(queries, keys), causal == 1);
        Ok(Heads { batch, heads, kv_heads, dim, queries, keys, causal })
    };
    all.into_iter().map(one).collect()
}

/// Names of the variants to measure, `None` being the op's own choice. Errors when the op has
/// no variant of the name asked for.
fn variants(work: &Work, asked: &str, kernels: bool) -> Result<Vec<Option<&'static str>>> {
    let known = || work.instance.entry().kernels.iter().map(|kernel| kernel.name());
    match asked {
        "auto" => Ok(vec![None]),
        "all" if !kernels => Ok(vec![None]),
        _ if !kernels => {
            let message = format!("--variants {asked}: the CPU path has one route for every op");
            Err(Error::Argument(message))
        }
        "all" => Ok(known().map(Some).collect()),
        name => known().find(|k| *k == name).map(|k| vec![Some(k)]).ok_or_else(|| {
            let known: Vec<_> = known().collect();
            Error::Argument(format!(
                "--variants {name}: {} has no such variant; there are {}, and all or auto",
                work.op,
                known.join(", ")
            ))
        }),
    }
}

/// Operands and what the CPU path makes of them.
type Ready = (Vec<Option<Tensor>>, Vec<Tensor>);

/// One shape on one device.
struct Bench<'a> {
    context: &'a Context,
    gpu: Option<&'a Gpu>,
    work: &'a Work,
    options: &'a MeasureOptions,
}

impl Bench<'_> {
    /// Verifies and times one variant; `ready` keeps what other variants can use. Errors only
    /// when nothing more can be measured.
    fn row(&self, variant: Option<&str>, ready: &mut Option<Ready>) -> Result<Row> {
        let work = self.work;
        let outcome = self.outcome(variant, ready);
        if let Some(gpu) = self.gpu {
            gpu.check_alive()?;
        }
        let (name, outcome) = match outcome {
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                let failed = Outcome::Failed { reason: error.to_string(), error: None };
                (variant.unwrap_or("auto").to_owned(), failed)
            }
            Ok(found) => found,
        };
        let (op, shape, dtype) = (work.op.to_owned(), work.shape.clone(), work.dtype.to_string());
        let pick = self.pick()?.is_some_and(|kernel| kernel == name);
        Ok(Row { op, variant: name, pick, shape, dtype, outcome })
    }

    /// The precision that the policy means for these operands: fast for f16 and bf16 weights where
    /// the device multiplies such matrices.
    fn precision(&self) -> Precision {
        let matrices = self.gpu.is_some_and(|gpu| gpu.caps().fragment().is_some());
        match self.context.policy().precision {
            PrecisionMode::Fast => Precision::Fast,
            PrecisionMode::Auto if matrices && self.work.dtype != DType::F32 => Precision::Fast,
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

    fn outcome(
        &self,
        variant: Option<&str>,
        ready: &mut Option<Ready>,
    ) -> Result<(String, Outcome)> {
        let Some(gpu) = self.gpu else {
            return Ok(("cpu".to_owned(), self.cpu()?));
        };
        let name = variant.unwrap_or("auto").to_owned();
        let op = &*self.work.instance;
        let symbols = Symbols::default();
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
        let precision = self.precision();
        let options = RunOptions { kernel: variant, precision, ..RunOptions::default() };
        let prepared = match Prepared::new(gpu, op, inputs, &symbols, options) {
            Ok(prepared) => prepared,
            Err(error) => return not_run(&name, error),
        };
        let name = prepared.kernel().name().to_owned();
        let failed = |reason: String, error| (name.clone(), Outcome::Failed { reason, error });
        let mut commands = gpu.commands(&name);
        prepared.record(&mut commands.pass());
        let got = match gpu.submit(commands).and_then(|()| prepared.read(gpu)) {
            Ok(got) => got,
            Err(error) => return Ok(failed(error.to_string(), None)),
        };
        let limit = prepared.kernel().precision().nmse();
        let error = distance(&got, expected)?;
        if error.is_nan() || error > limit {
            let reason = format!("NMSE {error:.1e} against the CPU path, allowed {limit:.0e}");
            return Ok(failed(reason, Some(error)));
        }
        let timer = Timer::new(gpu)?;
        let time = measure_with(self.options, timer.clock(), |repeats| {
            self.context.check_cancelled()?;
            timer.run(&prepared, repeats)
        })?;
        Ok((name.clone(), Outcome::Measured { time, cost: prepared.cost(), error }))
    }

    fn prepare(&self) -> Result<Ready> {
        let inputs = self.work.draw()?;
        let expected = run_cpu(&*self.work.instance, &inputs, &Symbols::default())?;
        Ok((inputs, expected))
    }

    /// The CPU path, against the f64 reference.
    fn cpu(&self) -> Result<Outcome> {
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
        Ok(Outcome::Measured { time, cost: self.work.cost()?, error })
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
