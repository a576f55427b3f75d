//! `graph`: the command graph, by layer.

use std::path::PathBuf;

use clap::ValueEnum;

use super::context::Context;
use super::model::ModelArg;
use crate::error::Result;
use crate::files::write_whole;
use crate::graph::{Fusion, fuse, to_dot, to_json, to_svg};

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
    let graph = fuse(model.graph, off)?;
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
