//! `plan`: exact memory before anything runs.

use comfy_table::{Table, presets};
use serde_json::json;

use super::context::Context;
use super::context::count;
use super::model::{CacheArg, ModelArg};
use crate::engine::{Capacity, Device, Generator};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, GpuOptions, adapters, no_adapter};
use crate::graph::{Graph, Plan, Policy, Size, fuse};
use crate::models::{Class, Kind, ModelInfo, UNLIMITED};
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
    /// Tokens per sequence; the model's most if not given
    #[arg(long, value_parser = count(), allow_negative_numbers = true)]
    tokens: Option<usize>,
    /// Largest storage binding in bytes to plan for, instead of the device's
    #[arg(long, value_name = "BYTES")]
    max_binding: Option<u64>,
    /// For a model that generates: one pass over all tokens, as `run` makes it, instead of
    /// decoding steps that keep keys and values
    #[arg(long)]
    whole_pass: bool,
}

/// Bytes of everything that a model puts on a device.
struct Memory {
    plans: Vec<Plan>,
    dispatches: usize,
    /// Weights that two graphs use and the device holds once.
    shared: u64,
}

impl Memory {
    /// A model that generates: the decoding step with its caches, and the encoder before it.
    fn generating(
        model: &Generator,
        capacity: Capacity,
        caps: &Caps,
        policy: &Policy,
    ) -> Result<Self> {
        let (encode, decode) = model.graphs();
        let (encode_sizes, decode_sizes) = model.sizes(capacity)?;
        let mut plans = vec![Plan::of_device(decode, decode_sizes, caps, policy)?];
        let (mut dispatches, mut shared) = (decode.nodes().len(), 0);
        if let (Some(encode), Some(sizes)) = (encode, encode_sizes) {
            let mut plan = Plan::of_device(encode, sizes, caps, policy)?;
            // The states it fills are the decoder's.
            plan.states = 0;
            plans.push(plan);
            dispatches += encode.nodes().len();
            shared = encode.shared_weight_bytes(decode);
        }
        Ok(Self { plans, dispatches, shared })
    }

    fn whole_pass(graph: &Graph, sizes: Sizes, caps: &Caps, policy: &Policy) -> Result<Self> {
        let plan = Plan::of_device(graph, sizes, caps, policy)?;
        Ok(Self { plans: vec![plan], dispatches: graph.nodes().len(), shared: 0 })
    }

    fn sum(&self, of: impl Fn(&Plan) -> u64) -> u64 {
        self.plans.iter().map(of).sum()
    }

    fn weights(&self) -> u64 {
        self.sum(|p| p.weights).saturating_sub(self.shared)
    }

    fn total(&self) -> u64 {
        self.sum(Plan::total).saturating_sub(self.shared)
    }

    fn slots(&self) -> Vec<u64> {
        self.plans.iter().flat_map(|p| p.slots.iter().copied()).collect()
    }
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let model = args.model.open(context, false)?;
    let most = model.info.max_tokens.min(model.info.max_output_tokens());
    let unlimited = most == UNLIMITED;
    let tokens = args.tokens.unwrap_or(if unlimited { 512 } else { most });
    if tokens > most {
        let message = format!("--tokens {tokens}: the model takes at most {most}");
        return Err(Error::Argument(message));
    }
    let caps = device(context, args.max_binding)?;
    let (device, max_binding, policy) = (&caps.name, caps.max_binding, context.policy());
    let generates = matches!(model.info.class, Class::CausalLm | Class::Seq2SeqLm);
    let memory = if generates && !args.whole_pass {
        let folder = args.model.folder(context)?;
        let source = if model.info.kind == Kind::EncoderDecoder { tokens } else { 0 };
        let capacity = Capacity { batch: args.batch, context: tokens, source };
        let options = args.cache.options(context, tokens)?;
        let generator = Generator::open(folder, Device::cpu(), &options)?;
        Memory::generating(&generator, capacity, &caps, policy)?
    } else {
        let graph = fuse(model.graph, &[])?;
        let sizes = whole_pass(&model.info, &graph, args.batch, tokens)?;
        Memory::whole_pass(&graph, sizes, &caps, policy)?
    };
    let all_splits = || memory.plans.iter().flat_map(|p| &p.splits);
    let largest = memory.plans.iter().map(|p| p.largest_binding).max().unwrap_or(0);
    if context.json {
        let splits: Vec<_> =
            all_splits().map(|s| json!({"name": s.name, "parts": s.parts})).collect();
        let answer = json!({"device": device, "batch": args.batch, "tokens": tokens,
            "weights": memory.weights(), "cache": memory.sum(|p| p.states),
            "slots": memory.slots(), "inputs": memory.sum(|p| p.inputs),
            "outputs": memory.sum(|p| p.outputs), "readback": memory.sum(|p| p.readback),
            "total": memory.total(), "largest_binding": largest, "max_binding": max_binding,
            "splits": splits, "dispatches": memory.dispatches});
        return context.line(&answer.to_string());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let slots = memory.slots();
    for (what, bytes, note) in [
        ("weights", memory.weights(), String::new()),
        ("key and value cache", memory.sum(|p| p.states), String::new()),
        ("intermediates", slots.iter().sum(), format!("{} slots {slots:?}", slots.len())),
        ("inputs", memory.sum(|p| p.inputs), String::new()),
        ("outputs", memory.sum(|p| p.outputs), String::new()),
        ("readback", memory.sum(|p| p.readback), String::new()),
        ("total", memory.total(), String::new()),
        ("largest binding", largest, format!("of {max_binding} on {device}")),
    ] {
        table.add_row([what.to_owned(), bytes.to_string(), note]);
    }
    context.line(&format!("batch {} tokens {tokens}, in bytes", args.batch))?;
    context.line(&table.to_string())?;
    for split in all_splits() {
        context.line(&format!("weight {} in {} parts", split.name, split.parts))?;
    }
    context.line(&format!("{} dispatches, fits {device}", memory.dispatches))
}

/// Sizes of one pass over all tokens.
pub(super) fn whole_pass(
    info: &ModelInfo,
    graph: &Graph,
    batch: usize,
    tokens: usize,
) -> Result<Sizes> {
    let mut sizes = vec![(Size::Batch, batch), (Size::Tokens, tokens)];
    if info.kind == Kind::EncoderDecoder {
        sizes.push((Size::Source, tokens));
    }
    graph.sizes(&sizes)
}

/// The device to plan for. Nothing is allocated on it.
fn device(context: &Context, max_binding: Option<u64>) -> Result<Caps> {
    if let Some(max_binding) = max_binding {
        let name = "a device of that limit".to_owned();
        return Ok(Caps { name, max_binding, ..Caps::baseline() });
    }
    let gpu = if context.forced_cpu() { first_adapter()? } else { context.gpu()? };
    Ok(gpu.caps().clone())
}

/// With `--device cpu` the plan is for the adapter that a GPU run would have.
fn first_adapter() -> Result<Gpu> {
    match adapters().first() {
        Some(adapter) => adapter.open(GpuOptions::default()),
        None => Err(Error::NoAdapter(format!("{}, or give --max-binding", no_adapter()))),
    }
}
