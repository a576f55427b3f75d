//! `tune`: times the certified kernels for one model on this device, and keeps what it finds.

use std::sync::Arc;

use comfy_table::{Table, presets};
use serde_json::json;

use super::context::Context;
use super::context::count;
use super::model::{CacheArg, ModelArg};
use crate::engine::{Capacity, Device, Generator, Runner};
use crate::error::{Error, Result};
use crate::graph::{DeviceWeights, Policy, Size, Tune};
use crate::models::{Class, Kind};
use crate::ops::Pick;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    cache: CacheArg,
    /// The largest batch that will be run
    #[arg(long, default_value_t = 1, value_parser = count(), allow_negative_numbers = true)]
    batch: usize,
    /// The longest input that will be run, generated tokens included
    #[arg(long, default_value_t = 128, value_parser = count(), allow_negative_numbers = true)]
    tokens: usize,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let model = args.model.open(context, false)?;
    let most = model.info.max_tokens.min(model.info.max_output_tokens());
    let (batch, tokens) = (args.batch, args.tokens);
    if tokens > most {
        let message = format!("--tokens {tokens}: the model takes at most {most}");
        return Err(Error::Argument(message));
    }
    // Asked for by name, so every size is timed, on every device.
    let policy = Policy { tune: Tune::Full, ..context.policy().clone() };
    let weights = DeviceWeights::with_policy(&context.gpu()?, policy);
    let device = Device::Gpu(Arc::clone(&weights));
    let two = model.info.kind == Kind::EncoderDecoder;
    let progress = &mut context.load_progress();
    if matches!(model.info.class, Class::CausalLm | Class::Seq2SeqLm) {
        let options = args.cache.options(context, tokens)?;
        let generator = Generator::open(args.model.folder(context)?, device, &options)?;
        let source = if two { tokens } else { 0 };
        generator.reserve(Capacity { batch, context: tokens, source }, progress)?;
    } else {
        let runner = Runner::new(model.graph, device)?;
        let mut sizes = vec![(Size::Batch, batch), (Size::Tokens, tokens)];
        if two {
            sizes.push((Size::Source, tokens));
        }
        runner.reserve(&runner.graph().sizes(&sizes)?, progress)?;
    }
    report(context, &weights.gpu().caps().name, &weights.picks())
}

fn report(context: &Context, device: &str, picks: &[Pick]) -> Result<()> {
    let changed = picks.iter().filter(|p| p.kernel != p.guess).count();
    if context.json {
        let times = |p: &Pick| -> Vec<_> {
            p.timings.iter().map(|t| json!({"kernel": t.kernel, "ns": t.ns})).collect()
        };
        let row = |p: &Pick| {
            json!({"class": p.class, "kernel": p.kernel.name(), "by_rank": p.guess.name(),
                "timings": times(p)})
        };
        let rows: Vec<_> = picks.iter().map(row).collect();
        return context.line(&json!({"device": device, "picks": rows}).to_string());
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["op and shapes", "kernel", "timed (us)"]);
    for pick in picks {
        let times = pick.timings.iter().map(|t| format!("{} {:.1}", t.kernel, t.ns / 1e3));
        let times: Vec<_> = times.collect();
        let known = if times.is_empty() { "known before".to_owned() } else { times.join(", ") };
        let was = match pick.kernel == pick.guess {
            true => pick.kernel.name().to_owned(),
            false => format!("{} instead of {}", pick.kernel.name(), pick.guess.name()),
        };
        table.add_row([pick.class.clone(), was, known]);
    }
    context.line(&table.to_string())?;
    context.line(&format!("{device}: {} shape classes, {changed} changed", picks.len()))
}
