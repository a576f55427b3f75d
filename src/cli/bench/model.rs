//! `bench model`: whole forward passes, inputs from the host and results to the host.

use std::ops::ControlFlow;
use std::time::Instant;

use super::report::{Outcome, Row};
use super::sizes::{Sizes, combinations};
use crate::cli::Context;
use crate::cli::model::{ModelArg, by_name, random_inputs};
use crate::error::Result;
use crate::gpu::Clock;
use crate::graph::HostWeights;
use crate::models::{Device, Runner};
use crate::ops::Tolerance;
use crate::ops::bench::{MeasureOptions, measure_with};
use crate::tensor::{Sizes as Symbols, Tensor};

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
    for [batch, tokens] in combinations([&args.batch.0, &args.tokens.0])? {
        context.check_cancelled()?;
        let model = args.model.open(context, false)?;
        let inputs = random_inputs(&model.info, batch, tokens, false)?;
        let given = by_name(&inputs);
        let runner = Runner::new(model.graph, device.clone())?;
        let sizes = [("batch", batch), ("tokens", tokens)];
        runner.reserve(&sizes, &mut |_| match context.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })?;
        let got = runner.run(&given)?;
        context.warn(&runner.warnings());
        let graph = runner.graph();
        let weights = HostWeights::default();
        let want = crate::graph::run_cpu(graph, &weights, &given, Symbols::default())?;
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
            Outcome::Measured { time, cost: graph.cost(&sizes)?, error }
        } else {
            let reason = format!("NMSE {error:.1e} against the CPU path, allowed {LIMIT:.0e}");
            Outcome::Failed { reason, error: Some(error) }
        };
        let dtype = context.weight_dtype()?.map_or("as stored".to_owned(), |d| d.to_string());
        let (op, shape) = ("model".to_owned(), format!("{batch}x{tokens}"));
        push(Row { op, variant: model.info.model_type, shape, dtype, outcome })?;
    }
    Ok(())
}

fn nmse(got: &Tensor, want: &Tensor) -> Result<f64> {
    let any = Tolerance { nmse: f64::INFINITY, abs: f64::MAX, rel: 0.0, bound: None };
    let found = any.compare(got, want, 0)?.nmse;
    Ok(if found.is_nan() { f64::INFINITY } else { found })
}
