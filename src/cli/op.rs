//! `op`: one op from tensors to tensors.

use std::collections::HashSet;
use std::path::PathBuf;

use super::context::Context;
use crate::error::{Error, Result};
use crate::gpu::Choice;
use crate::ops::{Request, RunOptions, find, run as run_gpu, run_cpu};
use crate::tensor::Sizes;
use crate::weights::{SafeTensors, write};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The op, such as matmul, attention, layer_norm, softmax, rope
    name: String,
    /// Operands, by name
    #[arg(long)]
    input: PathBuf,
    /// Where results go
    #[arg(long)]
    output: PathBuf,
    /// Attributes of the op
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Kernel variant, instead of the preferred one
    #[arg(long)]
    variant: Option<String>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let entry = find(&args.name)?;
    let file = SafeTensors::open(&args.input)?;
    let mut request = Request::new(&args.name);
    let mut seen = HashSet::new();
    for setting in &args.settings {
        let fail = |what| Error::Argument(format!("--set {setting}: {what}"));
        let pair = setting.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
        let pair = pair.filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| fail("expected KEY=VALUE"))?;
        if !seen.insert(key) {
            return Err(fail("this key is given twice"));
        }
        request = request.setting(key, value);
    }
    for name in file.names().map(str::to_owned).collect::<Vec<_>>() {
        request = request.tensor(&name, file.read(&name)?);
    }
    let (op, inputs) = (entry.build)(&mut request)?;
    request.finish()?;
    let sizes = Sizes::default();
    let results = match context.device()? {
        Choice::Gpu(gpu) => {
            let options = RunOptions { kernel: args.variant.as_deref(), ..RunOptions::default() };
            run_gpu(&gpu, &*op, &inputs, &sizes, options)?
        }
        Choice::Cpu(_) if args.variant.is_some() => {
            let message = "--variant names a kernel, and the cpu route has none: give --device";
            return Err(Error::Argument(message.to_owned()));
        }
        Choice::Cpu(_) => run_cpu(&*op, &inputs, &sizes)?,
    };
    // The first result is `y` for every op, so that scripts need not know each op's own name.
    let names = op.outputs().iter().enumerate().map(|(i, name)| if i == 0 { "y" } else { name });
    let named: Vec<_> = names.zip(results).collect();
    write(&args.output, &named)?;
    for (name, tensor) in &named {
        context.notice(&format!("{name} {} -> {}", tensor.meta(), args.output.display()));
    }
    Ok(())
}
