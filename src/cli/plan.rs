//! `plan`: exact memory before anything runs.

use comfy_table::{Table, presets};
use serde_json::json;

use super::Context;
use super::context::count;
use super::model::ModelArg;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuOptions, NO_ADAPTER_HELP, adapters};
use crate::graph::{Graph, Plan, fuse};
use crate::tensor::{Sizes, Sym};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// Sequences at once
    #[arg(long, default_value_t = 1, value_parser = count(), allow_negative_numbers = true)]
    batch: usize,
    /// Tokens per sequence; the model's most if not given
    #[arg(long, value_parser = count(), allow_negative_numbers = true)]
    tokens: Option<usize>,
    /// Largest storage binding in bytes to plan for, instead of the device's
    #[arg(long, value_name = "BYTES")]
    max_binding: Option<u64>,
}

/// Sizes by symbol name; symbols not named are 1.
pub(super) fn capacity(graph: &Graph, sizes: &[(&str, usize)]) -> Sizes {
    let mut out = Sizes::default();
    for (index, name) in graph.symbols().iter().enumerate() {
        let value = sizes.iter().find(|(n, _)| n == name).map_or(1, |(_, v)| *v);
        out.set(Sym(index as u8), value);
    }
    out
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let model = args.model.open(context, false)?;
    let tokens = args.tokens.unwrap_or(model.info.max_tokens);
    let most = model.info.max_tokens;
    if tokens > most {
        let message = format!("--tokens {tokens}: the model takes at most {most}");
        return Err(Error::Argument(message));
    }
    let (device, max_binding) = device(context, args.max_binding)?;
    let graph = fuse(model.graph, &[])?;
    let capacity = capacity(&graph, &[("batch", args.batch), ("tokens", tokens)]);
    let plan = Plan::new(&graph, capacity, max_binding, false)?;
    let splits: Vec<_> =
        plan.splits.iter().map(|s| json!({"name": s.name, "parts": s.parts})).collect();
    if context.json {
        let answer = json!({"device": device, "batch": args.batch, "tokens": tokens,
            "weights": plan.weights, "slots": plan.slots, "inputs": plan.inputs,
            "outputs": plan.outputs, "readback": plan.readback, "total": plan.total(),
            "largest_binding": plan.largest_binding, "max_binding": max_binding,
            "splits": splits, "dispatches": graph.nodes().len()});
        return context.line(&answer.to_string());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let slots = plan.intermediates();
    for (what, bytes, note) in [
        ("weights", plan.weights, String::new()),
        ("intermediates", slots, format!("{} slots {:?}", plan.slots.len(), plan.slots)),
        ("inputs", plan.inputs, String::new()),
        ("outputs", plan.outputs, String::new()),
        ("readback", plan.readback, String::new()),
        ("total", plan.total(), String::new()),
        ("largest binding", plan.largest_binding, format!("of {max_binding} on {device}")),
    ] {
        table.add_row([what.to_owned(), bytes.to_string(), note]);
    }
    context.line(&format!("batch {} tokens {tokens}, in bytes", args.batch))?;
    context.line(&table.to_string())?;
    for split in &plan.splits {
        context.line(&format!("weight {} in {} parts", split.name, split.parts))?;
    }
    context.line(&format!("{} dispatches, fits {device}", graph.nodes().len()))
}

/// The device to plan for: its name and largest binding. Nothing is allocated on it.
fn device(context: &Context, max_binding: Option<u64>) -> Result<(String, u64)> {
    if let Some(bytes) = max_binding {
        return Ok(("a device of that limit".to_owned(), bytes));
    }
    let gpu = if context.forced_cpu() { first_adapter()? } else { context.gpu()? };
    Ok((gpu.caps().name.clone(), gpu.caps().max_binding))
}

/// With `--device cpu` the plan is for the adapter that a GPU run would have.
fn first_adapter() -> Result<Gpu> {
    match adapters().first() {
        Some(adapter) => adapter.open(GpuOptions::default()),
        None => Err(Error::NoAdapter(format!(
            "no adapter to plan for: {NO_ADAPTER_HELP}, or give --max-binding"
        ))),
    }
}
