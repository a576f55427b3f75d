//! `profile`: time per layer and kernel on the device's own clock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::context::Context;
use super::context::count;
use super::model::{CacheArg, ModelArg, random_inputs};
use crate::engine::{Capacity, Generator, by_name};
use crate::error::Result;
use crate::files::write_whole;
use crate::gpu::{Choice, Clock};
use crate::graph::{DeviceWeights, NodeTime, Session, SessionOptions, fuse};
use crate::models::Kind;
use crate::ops::{Rng, Sampling};
use crate::tensor::Sizes;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    cache: CacheArg,
    /// Sequences at once
    #[arg(long, default_value_t = 1, value_parser = count(), allow_negative_numbers = true)]
    batch: usize,
    /// Tokens per sequence
    #[arg(long, default_value_t = 64, value_parser = count(), allow_negative_numbers = true)]
    tokens: usize,
    /// Passes; times are medians
    #[arg(short, long, default_value_t = 5, value_parser = count(), allow_negative_numbers = true)]
    repetitions: usize,
    /// A step that appends one token behind `--tokens` others, as generation makes it, instead of
    /// one pass over all of them
    #[arg(long)]
    decode: bool,
    /// Also write the median pass for a Chrome-trace viewer
    #[arg(long)]
    trace: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    if args.decode {
        return decode(context, &args);
    }
    let model = args.model.open(context, false)?;
    let inputs = random_inputs(&model.info, args.batch, args.tokens, false)?;
    let gpu = context.gpu()?;
    let graph = Arc::new(fuse(model.graph, &[])?);
    let capacity = graph.bind_sizes(&by_name(&inputs), Sizes::default())?;
    let weights = DeviceWeights::with_policy(&gpu, context.policy().clone());
    let options = SessionOptions::default();
    let session = Session::new(graph, &weights, capacity, &options, &mut context.load_progress())?;
    let (times, clock) = medians(context, &args, || session.profile(&by_name(&inputs)))?;
    context.warn(&session.graph().warnings());
    report(context, &args, &times, clock.name())
}

/// A decoding step behind random tokens; an encoder's input is as long.
fn decode(context: &Context, args: &Args) -> Result<()> {
    let device = context.place_on(Choice::Gpu(context.gpu()?))?;
    let room = args.repetitions + 2;
    let options = args.cache.options(context, args.tokens + room)?;
    let model = Generator::open(args.model.folder(context)?, device, &options)?;
    let mut rng = Rng::new(7);
    let mut draw = |below: usize| -> Vec<Vec<u32>> {
        let row = |rng: &mut Rng| (0..args.tokens).map(|_| rng.below(below) as u32).collect();
        (0..args.batch).map(|_| row(&mut rng)).collect()
    };
    let prompts = draw(model.info().output_vocab_size());
    let sources = match model.info().kind {
        Kind::EncoderDecoder => draw(model.info().vocab_size),
        _ => Vec::new(),
    };
    let source = if sources.is_empty() { 0 } else { args.tokens };
    let capacity = Capacity { batch: args.batch, context: args.tokens + room, source };
    model.reserve(capacity, &mut context.load_progress())?;
    let mut decoding = model.start(&sources, &prompts, room, Sampling::GREEDY)?;
    decoding.prompt_logits()?;
    let next = vec![0; args.batch];
    let (times, clock) = medians(context, args, || decoding.profile(&next))?;
    context.warn(&model.warnings());
    report(context, args, &times, clock.name())
}

/// Every node's median time over the repetitions.
fn medians(
    context: &Context,
    args: &Args,
    mut profile: impl FnMut() -> Result<(Vec<NodeTime>, Clock)>,
) -> Result<(Vec<NodeTime>, Clock)> {
    // The first pass pays for what drivers put off until a pipeline is used.
    let (mut times, clock) = profile()?;
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); times.len()];
    for _ in 0..args.repetitions {
        context.check_cancelled()?;
        let (pass, _) = profile()?;
        samples.iter_mut().zip(pass).for_each(|(all, one)| all.push(one.ns));
    }
    for (time, mut all) in times.iter_mut().zip(samples) {
        all.sort_by(f64::total_cmp);
        time.ns = all[all.len() / 2];
    }
    Ok((times, clock))
}

/// Complete events ("X") in microseconds, one after the other, as the viewer takes them.
fn trace(times: &[NodeTime]) -> serde_json::Value {
    let mut start = 0.0;
    let event = |t: &NodeTime| {
        let begin = start;
        start += t.ns / 1e3;
        json!({"name": t.kernel, "cat": t.op, "ph": "X", "ts": begin, "dur": t.ns / 1e3,
            "pid": 0, "tid": 0, "args": {"layer": t.layer}})
    };
    json!({"traceEvents": times.iter().map(event).collect::<Vec<_>>()})
}

fn report(context: &Context, args: &Args, times: &[NodeTime], clock: &str) -> Result<()> {
    if let Some(path) = &args.trace {
        write_whole(path, trace(times).to_string().as_bytes())?;
    }
    let total: f64 = times.iter().map(|t| t.ns).sum();
    if context.json {
        let row =
            |t: &NodeTime| json!({"layer": t.layer, "op": t.op, "kernel": t.kernel, "ns": t.ns});
        let rows: Vec<_> = times.iter().map(row).collect();
        let answer = json!({"clock": clock, "total_ns": total, "nodes": rows});
        return context.line(&answer.to_string());
    }
    let sum = |key: fn(&NodeTime) -> &str| {
        let mut sums: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
        for time in times {
            let entry = sums.entry(key(time)).or_default();
            entry.0 += 1;
            entry.1 += time.ns;
        }
        let mut rows: Vec<_> = sums.into_iter().collect();
        rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        rows
    };
    for (title, rows) in [("kernel", sum(|t| t.kernel)), ("layer", sum(|t| &t.layer))] {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([title, "dispatches", "ms", "share"]);
        for (name, (count, ns)) in rows {
            let share = format!("{:.1} %", 100.0 * ns / total);
            table.add_row([name.to_owned(), count.to_string(), format!("{:.3}", ns / 1e6), share]);
        }
        for column in 1..4 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        context.line(&table.to_string())?;
    }
    context.line(&format!("total {:.3} ms, {clock}", total / 1e6))
}
