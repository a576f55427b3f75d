//! The forms that rows of a benchmark are printed in.

use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::baseline;
use super::html;
use super::rows::{Columns, KEYS, Outcome, Place, Row, complaints};
use crate::cli::context::{Context, failed};
use crate::error::Result;
use crate::files::write_whole;

/// What rows are printed as.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table, also valid Markdown
    Md,
    /// With a header line
    Csv,
    /// One array
    Json,
    /// One object per line, each as soon as it is measured
    Jsonl,
}

impl Format {
    /// The form that was asked for, by name or by `--json`.
    pub fn asked(output: Option<Self>, context: &Context) -> Self {
        match (output, context.json) {
            (Some(format), _) => format,
            (None, true) => Self::Jsonl,
            (None, false) => Self::Md,
        }
    }
}

/// Collects rows; prints those forms that can be printed row by row at once.
pub(crate) struct Report<'a> {
    context: &'a Context,
    format: Format,
    html: Option<PathBuf>,
    place: Place,
    rows: Vec<Row>,
}

impl<'a> Report<'a> {
    /// What to say when, for some shape, the kernel that models would use takes over `percent`
    /// longer than the fastest one.
    pub fn lagging(&self, percent: f64) -> Option<String> {
        let time = |row: &Row| match &row.outcome {
            Outcome::Measured { time, .. } => Some(time.median_ns),
            _ => None,
        };
        let slow = self.rows.iter().filter(|row| row.pick).filter_map(|pick| {
            let same = |row: &&Row| {
                (&row.op, &row.shape, &row.dtype) == (&pick.op, &pick.shape, &pick.dtype)
            };
            // The baseline is no kernel that models could use.
            let kernels = self.rows.iter().filter(same).filter(|row| row.variant != baseline::NAME);
            let timed = kernels.filter_map(|row| Some((time(row)?, row)));
            let (best, fastest) = timed.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
            let lag = (time(pick)? / best - 1.0) * 100.0;
            let (op, shape) = (&pick.op, &pick.shape);
            let (pick, fastest) = (&pick.variant, &fastest.variant);
            (lag > percent)
                .then(|| format!("{op} {shape}: {pick} takes {lag:.0}% longer than {fastest}"))
        });
        let slow: Vec<_> = slow.collect();
        (!slow.is_empty()).then(|| format!("--assert {percent}: {}", slow.join("; ")))
    }

    pub fn new(context: &'a Context, format: Format, html: Option<PathBuf>, place: Place) -> Self {
        Self { context, format, html, place, rows: Vec::new() }
    }

    /// Takes a row.
    pub fn push(&mut self, row: Row) -> Result<()> {
        match self.format {
            Format::Jsonl => self.context.line(&row.json(&self.place).to_string())?,
            Format::Csv => {
                if self.rows.is_empty() {
                    self.context.line(&KEYS.join(","))?;
                }
                self.context.line(&csv(&row.json(&self.place), &KEYS))?;
            }
            Format::Md | Format::Json => {}
        }
        self.rows.push(row);
        Ok(())
    }

    /// Prints what is left and writes the page. Errors when a variant gave wrong results, or
    /// when nothing could be measured.
    pub fn finish(self) -> Result<()> {
        match self.format {
            Format::Md => self.tell()?,
            Format::Json => {
                let rows: Vec<_> = self.rows.iter().map(|row| row.json(&self.place)).collect();
                self.context.line(&serde_json::to_string_pretty(&rows).unwrap_or_default())?;
            }
            Format::Csv | Format::Jsonl => {}
        }
        if let Some(path) = &self.html {
            write_whole(path, html::page(&self.place, &self.rows).as_bytes())?;
            self.context.notice(&format!("wrote {}", path.display()));
        }
        self.verdict()
    }

    fn tell(&self) -> Result<()> {
        // Stopped before the first row: the error says it all.
        if self.rows.is_empty() {
            return Ok(());
        }
        let columns = Columns::new(&self.place, &self.rows);
        let cells = self.rows.iter().filter_map(|row| columns.cells(row));
        self.context.line(&self.place.describe(&self.rows))?;
        self.context.line("")?;
        self.context.line(&table(&columns.header(), cells, 4))?;
        let complaints = complaints(&self.rows);
        if !complaints.is_empty() {
            self.context.line(&format!("\n{}", complaints.join("\n")))?;
        }
        let timed = |row: &&Row| matches!(row.outcome, Outcome::Measured { .. });
        let again = self.rows.iter().filter(timed).map(|row| format!("    {}", row.repeat));
        let again: Vec<_> = again.collect();
        if !again.is_empty() {
            self.context.line(&format!("\nEach row again:\n\n{}", again.join("\n")))?;
        }
        Ok(())
    }

    fn verdict(&self) -> Result<()> {
        let wrong = self.rows.iter().filter(|r| matches!(r.outcome, Outcome::Failed { .. }));
        let count = wrong.count();
        if count > 0 {
            return failed(format!("{count} of {} variants and shapes failed", self.rows.len()));
        }
        let timed = self.rows.iter().any(|r| matches!(r.outcome, Outcome::Measured { .. }));
        match complaints(&self.rows).first() {
            Some(complaint) if !timed => failed(format!("nothing was measured; {complaint}")),
            _ => Ok(()),
        }
    }
}

/// A table, also valid Markdown; columns are flushed right from the given one on.
pub(super) fn table(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    right_from: usize,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header);
    for cells in rows {
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(right_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// One CSV record (RFC 4180) of a row under its keys.
pub(super) fn csv(row: &Value, keys: &[&str]) -> String {
    let field = |key: &&str| match &row[*key] {
        Value::Null => String::new(),
        Value::String(text) if text.contains([',', '"', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    keys.iter().map(field).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut row = json!({"op": "a,b", "variant": "say \"x\"", "shape": "1x2", "samples": 3});
        row["error"] = Value::Null;
        assert!(csv(&row, &KEYS).starts_with("\"a,b\",\"say \"\"x\"\"\",1x2,,,,,,3,,"));
        assert_eq!(csv(&row, &KEYS).matches(',').count(), KEYS.len());
    }
}
