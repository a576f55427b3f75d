//! `run`: one forward pass from tensors to tensors.

use std::path::PathBuf;

use super::context::Context;
use super::model::{ModelArg, read_inputs};
use crate::engine::{Runner, by_name};
use crate::error::Result;
use crate::tensor::Sizes;
use crate::weights::write;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// Inputs: input_ids, attention_mask, token_type_ids; any integer dtype, [batch, tokens]
    #[arg(long)]
    input: PathBuf,
    /// Where every output of the model class goes, in f32
    #[arg(long)]
    output: PathBuf,
    /// Also write hidden_states.N
    #[arg(long)]
    hidden_states: bool,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let model = args.model.open(context, args.hidden_states)?;
    let inputs = read_inputs(&model.info, &args.input)?;
    let runner = Runner::new(model.graph, context.place()?)?;
    let given = by_name(&inputs);
    let sizes = runner.graph().bind_sizes(&given, Sizes::default())?;
    runner.reserve(&sizes, &mut context.load_progress())?;
    let outputs = runner.run(&given)?;
    context.warn(&runner.warnings());
    let named: Vec<_> = outputs.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    write(&args.output, &named)?;
    for (name, tensor) in &named {
        context.notice(&format!("{name} {} -> {}", tensor.meta(), args.output.display()));
    }
    Ok(())
}
