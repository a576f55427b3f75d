//! `check`: kernels on machines that are not there, or anybody's kernel in a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde_json::json;

use super::check_file::{self, FileArgs};
use super::context::{Context, complain};
use super::cost;
use super::findings::{listed, show};
use crate::error::{Error, Result};
use crate::ops::{
    CheckOptions, Checked, Checker, Entry, Outcome, costs, find, random_cases, registry, summary,
};
use crate::simt::Machine;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A kernel of your own, instead of the ops' cases
    file: Option<PathBuf>,
    /// Only this op
    #[arg(long, conflicts_with = "file")]
    op: Option<String>,
    /// Only cases whose label has these words
    #[arg(long, value_name = "WORDS", conflicts_with = "file")]
    case: Option<String>,
    /// Subgroup sizes; `none` is a machine without subgroups
    #[arg(long, value_delimiter = ',', value_name = "SIZES", value_parser = subgroup)]
    subgroup: Vec<Subgroup>,
    /// Sides of cooperative matrices
    #[arg(long, value_delimiter = ',', default_value = "8,16", conflicts_with = "file")]
    fragments: Vec<u32>,
    /// Also this many cases of shapes drawn at random, over all ops
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "file")]
    random: usize,
    /// Where drawing begins
    #[arg(long, default_value_t = 1, requires = "random")]
    seed: u64,
    /// What each kernel asks of a GPU, and the best it could reach on the machine
    #[arg(long)]
    cost: bool,
    /// The machine whose figures bound the cost
    #[arg(long, default_value = "h100", value_name = "NAME", requires = "cost")]
    machine: String,
    #[command(flatten)]
    own: FileArgs,
}

/// A size of subgroups, if there are any.
type Subgroup = Option<u32>;

fn subgroup(text: &str) -> std::result::Result<Subgroup, String> {
    if text == "none" {
        return Ok(None);
    }
    let size = text.parse().ok().filter(|s: &u32| s.is_power_of_two() && *s <= 128);
    size.map(Some).ok_or_else(|| "expected a power of two up to 128, or none".to_owned())
}

/// What a run found: exit status 0, 1, or 2 if it could not be run.
pub(crate) fn run(context: &Context, args: Args) -> ExitCode {
    let done = match &args.file {
        Some(path) => {
            let sizes: Vec<_> = args.subgroup.clone();
            let machine = args.cost.then_some(args.machine.as_str());
            check_file::run(context, path, &args.own, &sizes, machine)
        }
        None => ops(context, &args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::from(2)
        }
    }
}

fn ops(context: &Context, args: &Args) -> Result<bool> {
    let machine = args.cost.then(|| Machine::named(&args.machine)).transpose()?;
    let entries: Vec<&'static Entry> = match &args.op {
        Some(name) => vec![find(name)?],
        None => registry().to_vec(),
    };
    let mut options = CheckOptions {
        fragments: args.fragments.clone(),
        kernels: context.policy().force.iter().map(|(_, kernel)| kernel.clone()).collect(),
        case: args.case.clone(),
        metered: args.cost,
        ..CheckOptions::default()
    };
    if !args.subgroup.is_empty() {
        options.subgroups = args.subgroup.clone();
    }
    let checker = Checker::default();
    let mut checked = Vec::new();
    let share = args.random.div_ceil(entries.len().max(1));
    for (i, entry) in entries.iter().enumerate() {
        let mut cases = (entry.cases)();
        if args.random > 0 {
            // Every op has its own stretch of seeds, so that one can be repeated alone.
            let drawn = random_cases(&cases, share, args.seed + ((i as u64) << 32));
            cases.extend(drawn);
        }
        let jobs = checker.count(entry, &cases, &options);
        let bar = context.bar(entry.name, jobs as u64, false);
        checked.extend(checker.check_cases(entry, &cases, &options, |n| {
            bar.inc(n as u64);
            !context.is_cancelled()
        }));
        bar.finish_and_clear();
        context.check_cancelled()?;
    }
    if !checked.iter().any(|c| matches!(c.outcome, Outcome::Passed { .. } | Outcome::Failed(_))) {
        return Err(Error::Argument("no case of these runs on any of these machines".to_owned()));
    }
    report(context, &checked, machine)
}

#[derive(Default)]
struct Row {
    passed: usize,
    failed: Vec<String>,
    not_run: usize,
    found: usize,
    rounds: u32,
}

fn report(context: &Context, checked: &[Checked], machine: Option<&Machine>) -> Result<bool> {
    let mut rows: BTreeMap<(&str, &str), Row> = BTreeMap::new();
    for one in checked {
        let row = rows.entry((one.op, one.kernel)).or_default();
        match &one.outcome {
            Outcome::Passed { .. } => row.passed += 1,
            Outcome::Failed(why) => {
                row.failed.push(format!("{} on {}: {why}", one.case, one.machine));
            }
            Outcome::NotRun(_) => row.not_run += 1,
        }
        row.found += one.report.findings.iter().count();
        row.rounds = row.rounds.max(one.report.rounds);
    }
    let findings = summary(checked);
    let failed: usize = rows.values().map(|r| r.failed.len()).sum();
    let faults = findings.iter().filter(|f| !f.kind.is_note()).count();
    let passed: usize = rows.values().map(|r| r.passed).sum();
    let costs = costs(checked);
    if context.json {
        let row = |((op, kernel), r): (&(&str, &str), &Row)| {
            json!({"op": op, "variant": kernel, "passed": r.passed, "failed": r.failed,
                "not_run": r.not_run, "max_loop_rounds": r.rounds})
        };
        let mut all = json!({"passed": passed, "failures": failed,
            "variants": rows.iter().map(row).collect::<Vec<_>>(),
            "findings": listed(&findings)});
        if let Some(machine) = machine {
            all["costs"] = costs.iter().map(|(k, c)| cost::json(k, c, machine)).collect();
        }
        context.line(&all.to_string())?;
        return Ok(failed + faults == 0);
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["op", "variant", "passed", "failed", "not run", "findings", "most rounds"]);
    for ((op, kernel), r) in &rows {
        table.add_row([
            (*op).to_owned(),
            (*kernel).to_owned(),
            r.passed.to_string(),
            r.failed.len().to_string(),
            r.not_run.to_string(),
            r.found.to_string(),
            r.rounds.to_string(),
        ]);
    }
    context.line(&table.to_string())?;
    for ((op, kernel), r) in &rows {
        for why in &r.failed {
            context.line(&format!("FAILED {op}/{kernel} {why}"))?;
        }
    }
    show(context, &findings)?;
    if let Some(machine) = machine {
        for (kernel, cost) in &costs {
            cost::show(context, kernel, cost, machine)?;
        }
    }
    context.line(&format!("{passed} passed, {failed} wrong, {faults} findings"))?;
    Ok(failed + faults == 0)
}
