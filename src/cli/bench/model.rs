//! `bench model`: whole forward passes, inputs from the host and results to the host.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rows::{Outcome, Row, Start};
use super::sizes::{Sizes, combinations};
use super::timing::{quoted, repeat};
use crate::cli::context::Context;
use crate::cli::model::{CacheArg, ModelArg, random_inputs};
use crate::engine::{Device, Generator, Runner, by_name};
use crate::error::Result;
use crate::gpu::Clock;
use crate::graph::{LoadTimes, Size};
use crate::models::Kind;
use crate::ops::bench::{MeasureOptions, measure_with};
use crate::ops::{Rng, Sampling, Tolerance};
use crate::tensor::{DType, Sizes as Symbols, Tensor};

#[derive(clap::Args)]
pub(super) struct ModelArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Sequences at once
    #[arg(long, default_value = "1")]
    batch: Sizes,
    /// Tokens per sequence
    #[arg(long, default_value = "64")]
    tokens: Sizes,
    /// Generate this many tokens behind them instead of one pass over them: the time is a
    /// decoding step's
    #[arg(long, value_name = "N")]
    new: Option<Sizes>,
    #[command(flatten)]
    cache: CacheArg,
}

/// Largest NMSE of a model's results against the CPU path, for f32 on both sides.
const LIMIT: f64 = 1e-9;

/// Measures every combination of batch and tokens; `push` gets each row as it is ready.
pub(super) fn run(
    context: &Context,
    args: &ModelArgs,
    device: &Device,
    options: &MeasureOptions,
    push: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<()> {
    if let Some(new) = &args.new {
        for [batch, tokens, new] in combinations([&args.batch.0, &args.tokens.0, &new.0])? {
            context.check_cancelled()?;
            push(generation(context, args, device, options, [batch, tokens, new])?)?;
        }
        return Ok(());
    }
    for [batch, tokens] in combinations([&args.batch.0, &args.tokens.0])? {
        context.check_cancelled()?;
        let (begin, before) = (Instant::now(), device.load_times());
        let model = args.model.open(context, false)?;
        let inputs = random_inputs(&model.info, batch, tokens, false)?;
        let given = by_name(&inputs);
        let runner = Runner::new(model.graph, device.clone())?;
        let sizes = runner.graph().bind_sizes(&given, Symbols::default())?;
        runner.reserve(&sizes, &mut |_| match context.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })?;
        let got = runner.run(&given)?;
        let start = started(device, before, begin.elapsed());
        context.warn(&runner.warnings());
        let graph = runner.graph();
        let want = Runner::fused(Arc::clone(graph), Device::cpu()).run(&given)?;
        let mut error = 0.0f64;
        for (name, want) in &want {
            error = error.max(got.get(name).map_or(Ok(f64::INFINITY), |got| nmse(got, want))?);
        }
        let outcome = if error <= LIMIT {
            let time = measure_with(options, Clock::Host, |repeats| {
                let start = Instant::now();
                for _ in 0..repeats {
                    context.check_cancelled()?;
                    std::hint::black_box(runner.run(&given)?);
                }
                Ok(start.elapsed().as_nanos() as f64)
            })?;
            let sizes = graph.bind_sizes(&given, Symbols::default())?;
            Outcome::Measured { time, cost: graph.cost(&sizes)?, error, extra: None }
        } else {
            let reason = format!("NMSE {error:.1e} against the CPU path, allowed {LIMIT:.0e}");
            Outcome::Failed { reason, error: Some(error) }
        };
        let dtype = context.weight_dtype()?.map_or("as stored".to_owned(), |d| d.to_string());
        push(Row {
            op: "model".to_owned(),
            variant: model.info.model_type,
            pick: false,
            shape: format!("{batch}x{tokens}"),
            dtype,
            repeat: repeat_of(
                context,
                args,
                options,
                &format!("--batch {batch} --tokens {tokens}"),
            )?,
            curve: None,
            start,
            outcome,
        })?;
    }
    Ok(())
}

/// Tokens that device and CPU path must choose alike before the device is timed.
const CHECKED: usize = 4;

/// Decoding steps behind a random prompt, chosen and fed back on the device.
fn generation(
    context: &Context,
    args: &ModelArgs,
    device: &Device,
    options: &MeasureOptions,
    [batch, tokens, new]: [usize; 3],
) -> Result<Row> {
    let folder = args.model.folder(context)?;
    let build = args.cache.options(context, tokens + new)?;
    let open = |device| Generator::open(&folder, device, &build);
    let (begin, before) = (Instant::now(), device.load_times());
    let model = open(device.clone())?;
    let info = model.info();
    let mut rng = Rng::new(7);
    let mut draw = |tokens: usize, below: usize| -> Vec<Vec<u32>> {
        let mut row = || (0..tokens).map(|_| rng.below(below) as u32).collect();
        (0..batch).map(|_| row()).collect()
    };
    // Behind an encoder the random tokens are its input, and the decoder begins with one.
    let (sources, prompts) = match info.kind {
        Kind::EncoderDecoder => (draw(tokens, info.vocab_size), vec![vec![0]; batch]),
        _ => (Vec::new(), draw(tokens, info.vocab_size)),
    };
    let ids = |model: &Generator, room: usize| -> Result<(Vec<u32>, f64)> {
        let (mut all, mut first) = (Vec::new(), None);
        model.start(&sources, &prompts, new, Sampling::GREEDY)?.run_ahead(room, |ids| {
            first.get_or_insert_with(Instant::now);
            all.extend_from_slice(ids);
            match context.is_cancelled() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        context.check_cancelled()?;
        Ok((all, first.map_or(0.0, |first| first.elapsed().as_nanos() as f64)))
    };
    let mut first_token = None;
    model.start(&sources, &prompts, 1, Sampling::GREEDY)?.run_ahead(1, |_| {
        first_token.get_or_insert_with(|| begin.elapsed());
        ControlFlow::Continue(())
    })?;
    let start = started(device, before, first_token.unwrap_or_default());
    let checked = CHECKED.min(new);
    let agree = ids(&model, checked)?.0 == ids(&open(Device::cpu())?, checked)?.0;
    context.warn(&model.warnings());
    let outcome = if !agree {
        let reason = "other tokens than the CPU path's".to_owned();
        Outcome::Failed { reason, error: None }
    } else if new < 2 {
        Outcome::NotRun("--new 1 has no step after the prompt's".to_owned())
    } else {
        let steps = (new - 1) as f64;
        let time = measure_with(options, Clock::Host, |repeats| {
            let mut total = 0.0;
            for _ in 0..repeats {
                total += ids(&model, new)?.1 / steps;
            }
            Ok(total)
        })?;
        let (encode, graph) = model.graphs();
        let past = prompts[0].len() + new / 2;
        let mut sizes = vec![(Size::Batch, batch), (Size::Tokens, 1), (Size::Past, past)];
        sizes.push((Size::Context, prompts[0].len() + new));
        sizes.extend(encode.map(|_| (Size::Source, tokens)));
        let cost = graph.cost(&graph.sizes(&sizes)?)?;
        Outcome::Measured { time, cost, error: 0.0, extra: None }
    };
    let mut dtype = build.dtype.map_or("as stored".to_owned(), |d| d.to_string());
    if build.cache != DType::F32 {
        dtype += &format!(", {} cache", build.cache);
    }
    let shape = format!("{batch}x{tokens}+{new}");
    let mut sizes = format!("--batch {batch} --tokens {tokens} --new {new}");
    if build.cache != DType::F32 {
        sizes += &format!(" --cache-dtype {}", build.cache);
    }
    Ok(Row {
        op: "decode".to_owned(),
        variant: info.model_type.clone(),
        pick: false,
        shape,
        dtype,
        repeat: repeat_of(context, args, options, &sizes)?,
        curve: None,
        start,
        outcome,
    })
}

/// What it took to start, on a device; the CPU has no such phase.
fn started(device: &Device, before: LoadTimes, first: Duration) -> Option<Start> {
    device.as_gpu().map(|_| Start { load: device.load_times().since(before), first })
}

/// The command line of a row of these sizes.
fn repeat_of(
    context: &Context,
    args: &ModelArgs,
    options: &MeasureOptions,
    sizes: &str,
) -> Result<String> {
    let mut line = format!("model --model {}", quoted(&args.model.model.to_string_lossy()));
    if let Some(head) = &args.model.head {
        line += &format!(" --head {}", quoted(&head.to_string_lossy()));
    }
    line += &format!(" {sizes}");
    if let Some(dtype) = context.weight_dtype()? {
        line += &format!(" --dtype {dtype}");
    }
    Ok(repeat(context, &line, options))
}

fn nmse(got: &Tensor, want: &Tensor) -> Result<f64> {
    let any = Tolerance { nmse: f64::INFINITY, abs: f64::MAX, rel: 0.0, bound: None };
    let found = any.compare(got, want, 0)?.nmse;
    Ok(if found.is_nan() { f64::INFINITY } else { found })
}
