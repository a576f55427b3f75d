//! `bench`: how fast is a kernel on this device, and is it right? Every variant is compared with
//! the CPU path on the operands it is then timed with; a wrong one gets no time.

mod attention;
mod baseline;
mod compare;
mod html;
mod model;
mod plot;
mod presets;
mod report;
mod rows;
mod sizes;
mod timing;
mod work;

use std::path::PathBuf;

use crate::engine::Device;
use crate::error::{Error, Result};
use crate::format::Format as Storage;
use crate::gpu::Choice;
use crate::ops::bench::{MeasureOptions, Roofline};
use crate::tensor::DType;

use super::context::{Context, failed};
use attention::{AttentionArgs, attentions};
use report::{Format, Report};
use rows::Place;
use sizes::{Products, Sizes, combinations};
use timing::{Bench, variants};
use work::{Norm, Work};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
struct How {
    /// Kernel variants: auto (the one that models use), all, or a name; for attention also naive,
    /// the baseline
    #[arg(long, global = true, default_value = "auto", value_name = "all|auto|NAME")]
    variants: String,
    /// Timed samples of each row
    #[arg(short, long, global = true, default_value = "10",
        value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
    /// Form of the answer: md, or jsonl with --json
    #[arg(short, long, global = true, value_enum)]
    output: Option<Format>,
    /// Fail when the kernel that models would use takes so many percent longer than the fastest,
    /// with --variants all; of compare, when a row got so many percent slower, beyond noise
    #[arg(long, global = true, value_name = "PERCENT")]
    assert: Option<f64>,
    /// Also write a page with plots, bars and the table
    #[arg(long, global = true, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
#[command(after_help = "Sizes are numbers, lists (128,512) and ranges (64-4096*2, 64-256+64); \
                  32k is 32 * 1024; every combination of a command's lists is measured.")]
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
    /// What changed between two results
    Compare(compare::CompareArgs),
}

/// Storage of a product's other factor and of its result.
#[derive(clap::Args)]
struct StorageArgs {
    /// Storage of x
    #[arg(long, value_enum, value_delimiter = ',', default_value = "f32")]
    x_dtype: Vec<Half>,
    /// Storage of the result
    #[arg(long, value_enum, value_delimiter = ',', default_value = "f32")]
    y_dtype: Vec<Half>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Half {
    F32,
    F16,
}

impl Half {
    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }
}

#[derive(clap::Args)]
struct MatmulArgs {
    /// m = n = k [default without --mnk: 512,1024]
    #[arg(long)]
    size: Option<Sizes>,
    /// Rows, columns and depth, such as 128x3072x768
    #[arg(long, value_name = "MxNxK")]
    mnk: Option<Products<3>>,
    #[command(flatten)]
    storage: StorageArgs,
}

#[derive(clap::Args)]
struct GemvArgs {
    /// Columns and depth
    #[arg(long, value_name = "NxK", default_value = "768x3072,4096x4096")]
    nk: Products<2>,
    /// Vectors at once
    #[arg(long, default_value = "1")]
    m: Sizes,
    #[command(flatten)]
    storage: StorageArgs,
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

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    if let What::Compare(what) = &args.what {
        return compare::run(context, what, args.how.output, args.how.assert, args.how.html);
    }
    let works = works(&args.what, context)?;
    let baseline = matches!(&args.what, What::Attention(args) if args.baseline.is_some());
    let gpu = if context.forced_cpu() { None } else { Some(context.gpu()?) };
    let variants = works
        .iter()
        .map(|work| variants(work, &args.how.variants, baseline, gpu.is_some()))
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
    let format = Format::asked(args.how.output, context);
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
            bar.set_message(format!("{} {} {}", work.op, work.shape, variant.name()));
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
fn works(what: &What, context: &Context) -> Result<Vec<Work>> {
    let dtypes = || context.weight_dtypes();
    match what {
        What::Matmul(args) => {
            let square = |sizes: &Sizes| sizes.0.iter().map(|&n| [n, n, n]).collect();
            let mut shapes: Vec<[usize; 3]> = args.size.as_ref().map(square).unwrap_or_default();
            shapes.extend(args.mnk.iter().flat_map(|products| &products.0));
            if shapes.is_empty() {
                shapes.extend([[512; 3], [1024; 3]]);
            }
            products("matmul", &shapes, &dtypes()?, &args.storage)
        }
        What::Gemv(args) => {
            let vectors = |nk: &[usize; 2]| args.m.0.iter().map(|&m| [m, nk[0], nk[1]]).collect();
            let shapes: Vec<_> = args.nk.0.iter().flat_map::<Vec<_>, _>(vectors).collect();
            products("gemv", &shapes, &dtypes()?, &args.storage)
        }
        What::Norm(args) => {
            let other = dtypes()?.into_iter().flatten().find(|dtype| *dtype != Storage::F32);
            if let Some(dtype) = other {
                let message = format!("--dtype {dtype}: norms read f32");
                return Err(Error::Argument(message));
            }
            let shapes = combinations([&args.rows.0, &args.cols.0])?.into_iter();
            shapes.map(|[rows, cols]| Work::norm(args.norm, rows, cols)).collect()
        }
        What::Attention(args) => {
            attentions(args, &dtypes()?)?.into_iter().map(Work::attention).collect()
        }
        // Measured by loops of their own.
        What::Model(_) | What::Compare(_) => Ok(Vec::new()),
    }
}

/// Every shape with every storage of its operands.
fn products(
    op: &'static str,
    shapes: &[[usize; 3]],
    weights: &[Option<Storage>],
    other: &StorageArgs,
) -> Result<Vec<Work>> {
    let mut works = Vec::new();
    for &mnk in shapes {
        for weight in weights {
            for x in &other.x_dtype {
                for y in &other.y_dtype {
                    let weight = weight.unwrap_or(Storage::F32);
                    let storage = work::Storage { weight, x: x.dtype(), y: y.dtype() };
                    works.push(Work::matmul(op, mnk, storage)?);
                }
            }
        }
    }
    Ok(works)
}
