//! What a kernel asks of a GPU, as `check --cost` shows it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::context::Context;
use crate::error::Result;
use crate::simt::{Access, Cost, Machine, Unit};

/// Lines that are shown of what asks for more than it must.
const LINES: usize = 6;

pub(super) fn json(kernel: &str, cost: &Cost, machine: &Machine) -> Value {
    let bound = machine.bound(cost);
    let access = |a: &Access| {
        json!({"file": a.place.file, "line": a.place.line, "variable": a.variable,
            "memory": if a.workgroup { "workgroup" } else { "storage" }, "writes": a.writes,
            "requests": a.requests, "units": a.units, "best": a.best, "bytes": a.bytes})
    };
    let mut lines: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
    for (place, unit, n) in cost.lines() {
        lines.entry(place.to_string()).or_default().insert(unit.name(), n);
    }
    let units: BTreeMap<_, _> =
        Unit::ALL.iter().map(|&u| (u.name(), cost.instructions(u))).collect();
    json!({"kernel": kernel, "sectors": cost.sectors().0, "sectors_best": cost.sectors().1,
        "l2_bytes": cost.l2_bytes, "wavefronts": cost.wavefronts().0,
        "wavefronts_best": cost.wavefronts().1, "matrix_fma": cost.matrix_fma,
        "instructions": units, "barriers": cost.barriers(), "lines": lines,
        "accesses": cost.accesses().iter().map(access).collect::<Vec<_>>(),
        "machine": machine.title, "clocks": bound.clocks.iter().copied().collect::<BTreeMap<_, _>>(),
        "seconds_at_least": bound.at_least})
}

pub(super) fn show(context: &Context, kernel: &str, cost: &Cost, machine: &Machine) -> Result<()> {
    let units = Unit::ALL.iter().map(|&u| format!("{} {}", u.name(), cost.instructions(u)));
    let mut text = vec![format!("{kernel}, invocations' instructions: {}", join(units))];
    if cost.matrix_fma > 0 {
        text.push(format!("  matrices: {:.2} MFLOP", 2e-6 * cost.matrix_fma as f64));
    }
    let over = |(asked, best): (u64, u64)| {
        format!("{asked}, {best} at best ({:.2}x)", asked as f64 / best.max(1) as f64)
    };
    text.push(format!("  32-byte sectors: {}", over(cost.sectors())));
    let l2 = cost.l2_bytes as f64 / 1e3;
    text.push(format!("  from L2: {l2:.1} KB, if a sector stays close until the next barrier"));
    if cost.wavefronts().0 > 0 {
        let barriers = cost.barriers();
        text.push(format!("  wavefronts: {}; {barriers} barriers", over(cost.wavefronts())));
    }
    let mut wasteful = cost.accesses();
    wasteful.retain(|a| a.units > a.best + a.best / 100);
    wasteful.sort_by_key(|a| a.best as i64 - a.units as i64);
    for a in wasteful.iter().take(LINES) {
        let Access { place, variable, units, best, .. } = a;
        let how = if a.writes { "write" } else { "read" };
        let what = if a.workgroup { "wavefronts" } else { "sectors" };
        text.push(format!("    {place}: {how} of {variable}: {units} {what} for {best}"));
    }
    let bound = machine.bound(cost);
    let busy = bound.clocks.iter().filter(|c| c.1 > 0.0).map(|(n, c)| format!("{n} {c:.0}"));
    text.push(format!("  clocks of one processor of {}: {}", machine.title, join(busy)));
    let mut last = format!("  at least {:.2} us on all of them", bound.at_least * 1e6);
    if let Some((first, _)) = bound.clocks.first() {
        last += &format!(", bound by {first}");
    }
    if cost.matrix_fma > 0 {
        let rate = 2e-12 * cost.matrix_fma as f64 / bound.at_least;
        last += &format!("; at most {rate:.0} TFLOP/s of matrices");
    }
    text.push(last);
    context.line(&text.join("\n"))
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
