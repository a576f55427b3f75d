//! How what the checker found is shown.

use serde_json::{Value, json};

use super::context::Context;
use crate::error::Result;
use crate::simt::{Finding, Findings};

/// Findings, one a line, notes behind faults.
pub(super) fn show(context: &Context, findings: &Findings) -> Result<()> {
    let (notes, faults): (Vec<_>, Vec<_>) = findings.iter().partition(|f| f.kind.is_note());
    for finding in faults {
        context.line(&finding.to_string())?;
    }
    for note in notes {
        context.line(&format!("note: {note}"))?;
    }
    Ok(())
}

/// Findings for `--json`.
pub(super) fn listed(findings: &Findings) -> Vec<Value> {
    let one = |f: &Finding| {
        json!({"kind": f.kind.name(), "file": f.place.file, "line": f.place.line,
            "variable": f.variable, "detail": f.detail, "count": f.count})
    };
    findings.iter().map(one).collect()
}
