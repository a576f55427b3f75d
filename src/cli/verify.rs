//! `verify`: kernels, or a whole model node by node, against the CPU reference.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use comfy_table::{Table, presets};
use serde_json::json;

use super::context::{Context, failed};
use super::model::{ModelArg, random_inputs, read_inputs};
use crate::engine::{NodeCheck, by_name, verify};
use crate::error::Result;
use crate::gpu::Choice;
use crate::graph::fuse;
use crate::ops::{Outcome, Verdict, registry, verify_ops};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Every kernel variant against its f64 reference on this device
    Ops,
    /// One model's graph on the GPU and on the CPU, node by node
    Model(ModelArgs),
}

#[derive(clap::Args)]
struct ModelArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Inputs as for `run`; random ids with padding if not given
    #[arg(long)]
    input: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    match args.what {
        What::Ops => ops(context),
        What::Model(args) => model(context, args),
    }
}

fn model(context: &Context, args: ModelArgs) -> Result<()> {
    let model = args.model.open(context, false)?;
    let inputs = match &args.input {
        Some(path) => read_inputs(&model.info, path)?,
        None => random_inputs(&model.info, 2, model.info.max_tokens.min(24), true)?,
    };
    let gpu = context.gpu()?;
    let graph = Arc::new(fuse(model.graph, &[])?);
    let device = context.place_on(Choice::Gpu(gpu.clone()))?;
    let checks = verify(&graph, device, &by_name(&inputs), &mut context.load_progress())?;
    context.warn(&graph.warnings());
    let mut layers: Vec<(&str, f64)> = Vec::new();
    for check in &checks {
        let relative = check.max_abs / check.scale.max(f64::MIN_POSITIVE);
        match layers.last_mut() {
            Some((layer, worst)) if *layer == check.layer => *worst = worst.max(relative),
            _ => layers.push((&check.layer, relative)),
        }
    }
    let device = &gpu.caps().name;
    let kernels = kernels(&checks);
    let first = checks.iter().find(|c| !c.passed());
    if context.json {
        let row = |(layer, worst): &(&str, f64)| json!({"layer": layer, "max_rel": worst});
        let rows: Vec<_> = layers.iter().map(row).collect();
        let diverged = first.map(|c| json!({"layer": c.layer, "op": c.op, "max_abs": c.max_abs}));
        let passed = first.is_none();
        let kernel = |((op, kernel, precision, stored), count): (&Kind<'_>, &usize)| {
            json!({"op": op, "kernel": kernel, "precision": precision, "stored": stored,
                "nodes": count})
        };
        let kernels: Vec<_> = kernels.iter().map(kernel).collect();
        let answer = json!({"device": device, "nodes": checks.len(), "passed": passed,
            "first_divergence": diverged, "layers": rows, "kernels": kernels});
        context.line(&answer.to_string())?;
    } else {
        for (layer, worst) in &layers {
            context.line(&format!("{layer:32} max difference {worst:.1e} of the scale"))?;
        }
        for ((op, kernel, precision, stored), count) in &kernels {
            let narrowed = if *stored == "f16" { ", stored in f16" } else { "" };
            context.line(&format!("{op:16} {kernel:24} {precision}, {count} nodes{narrowed}"))?;
        }
        let same = checks.iter().take_while(|c| c.passed()).count();
        let all = checks.len();
        context.line(&format!("{device}: {same} of {all} nodes agree with the CPU reference"))?;
    }
    match first {
        None => Ok(()),
        Some(c) => failed(format!(
            "{} {} is the first node that diverges: max difference {:.1e} at scale {:.1e}",
            c.layer, c.op, c.max_abs, c.scale
        )),
    }
}

/// Op, kernel, precision, and how the result is stored.
type Kind<'a> = (&'a str, &'a str, &'a str, &'a str);

/// How many nodes each kernel ran. What stands behind a node that lost digits is held to that node's
/// bound.
fn kernels(checks: &[NodeCheck]) -> BTreeMap<Kind<'_>, usize> {
    let mut found = BTreeMap::new();
    for check in checks {
        let key = (check.op, check.kernel, check.precision.name(), check.stored.name());
        *found.entry(key).or_default() += 1;
    }
    found
}

/// Counts of one variant.
#[derive(Default)]
struct Row {
    passed: usize,
    failed: Vec<String>,
    not_run: BTreeMap<String, usize>,
    nmse: f64,
    max_abs: f64,
}

fn ops(context: &Context) -> Result<()> {
    let gpu = if context.forced_cpu() { None } else { Some(context.gpu()?) };
    let name = gpu.as_ref().map_or("CPU reference route", |g| g.caps().name.as_str()).to_owned();
    let bar = context.bar("verifying", registry().len() as u64, false);
    let verdicts = verify_ops(gpu.as_ref(), |op| {
        bar.inc(1);
        bar.set_message(op.to_owned());
        !context.is_cancelled()
    });
    bar.finish_and_clear();
    context.check_cancelled()?;
    report(context, &name, &verdicts)
}

fn report(context: &Context, device: &str, verdicts: &[Verdict]) -> Result<()> {
    let mut rows: Vec<((&str, &str), Row)> = Vec::new();
    for verdict in verdicts {
        let key = (verdict.op, verdict.kernel);
        if rows.last().is_none_or(|(last, _)| *last != key) {
            rows.push((key, Row::default()));
        }
        let Some((_, row)) = rows.last_mut() else { continue };
        match &verdict.outcome {
            Outcome::Passed { nmse, max_abs } => {
                row.passed += 1;
                row.nmse = row.nmse.max(*nmse);
                row.max_abs = row.max_abs.max(*max_abs);
            }
            Outcome::Failed(why) => row.failed.push(format!("{}: {why}", verdict.case)),
            Outcome::NotRun(why) => *row.not_run.entry(why.clone()).or_default() += 1,
        }
    }
    let failures: usize = rows.iter().map(|(_, r)| r.failed.len()).sum();
    let passed: usize = rows.iter().map(|(_, r)| r.passed).sum();
    if context.json {
        let row = |((op, kernel), r): &((&str, &str), Row)| {
            json!({"op": op, "variant": kernel, "passed": r.passed, "failed": r.failed,
                "not_run": r.not_run, "max_nmse": r.nmse, "max_abs": r.max_abs})
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        let all =
            json!({"device": device, "passed": passed, "failures": failures, "variants": rows});
        context.line(&all.to_string())?;
    } else {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["op", "variant", "passed", "failed", "not run", "worst NMSE"]);
        for ((op, kernel), r) in &rows {
            let skipped: Vec<_> = r.not_run.iter().map(|(why, n)| format!("{n}: {why}")).collect();
            table.add_row([
                (*op).to_owned(),
                (*kernel).to_owned(),
                r.passed.to_string(),
                r.failed.len().to_string(),
                skipped.join("; "),
                if r.passed > 0 { format!("{:.1e}", r.nmse) } else { "-".to_owned() },
            ]);
        }
        context.line(&table.to_string())?;
        for ((op, kernel), r) in &rows {
            for why in &r.failed {
                context.line(&format!("FAILED {op}/{kernel} {why}"))?;
            }
        }
        context.line(&format!("{device}: {passed} passed, {failures} failures"))?;
    }
    if failures > 0 { failed(format!("{failures} cases failed on {device}")) } else { Ok(()) }
}
