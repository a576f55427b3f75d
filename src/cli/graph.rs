//! `graph`: the command graph, by layer.

use std::path::PathBuf;

use clap::ValueEnum;

use super::context::Context;
use super::model::ModelArg;
use super::plan::whole_pass;
use crate::error::Result;
use crate::files::write_whole;
use crate::graph::{Fusion, PrecisionMode, fuse, narrow, to_dot, to_json, to_svg};

/// Tokens of the pass that is shown: kernels, and what they can store in f16, may depend on sizes.
const TOKENS: usize = 512;

/// With `--precision fast`, as the device that was asked for stores it.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// Form: dot, or json with --json
    #[arg(short, long, value_enum)]
    output: Option<Form>,
    /// Where it goes instead of stdout
    #[arg(long)]
    file: Option<PathBuf>,
    /// Show the graph as the model built it, without rewrites
    #[arg(long)]
    unfused: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Dot,
    Json,
    Svg,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let model = args.model.open(context, false)?;
    let off: &[Fusion] = if args.unfused { &Fusion::ALL } else { &[] };
    let mut graph = fuse(model.graph, off)?;
    if context.policy().precision == PrecisionMode::Fast && !args.unfused {
        let tokens = model.info.max_tokens.min(TOKENS);
        let sizes = whole_pass(&model.info, &graph, 1, tokens)?;
        if let Some(narrowed) = narrow(&graph, sizes, context.gpu()?.caps(), context.policy())? {
            graph = narrowed;
        }
    }
    let form = args.output.unwrap_or(if context.json { Form::Json } else { Form::Dot });
    let text = match form {
        Form::Dot => to_dot(&graph),
        Form::Json => format!("{}\n", to_json(&graph)),
        Form::Svg => to_svg(&graph),
    };
    match &args.file {
        Some(path) => write_whole(path, text.as_bytes()),
        None => context.write(text.as_bytes()),
    }
}
