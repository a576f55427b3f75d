//! Rows of a benchmark, and what their cells say.

use serde_json::{Value, json};

use crate::ops::Cost;
use crate::ops::bench::{Measurement, Roofline};

/// Keys of a row in every machine-readable form.
pub(crate) const KEYS: [&str; 18] = [
    "op",
    "variant",
    "shape",
    "dtype",
    "device",
    "median_ns",
    "min_ns",
    "max_ns",
    "samples",
    "gflops",
    "gbytes_per_s",
    "roofline",
    "error",
    "clock",
    "driver",
    "status",
    "reason",
    "pick",
];

/// Where the rows were measured.
pub(crate) struct Place {
    pub device: String,
    pub driver: String,
    /// The device's limits; `None` on the CPU route.
    pub roofline: Option<Roofline>,
}

/// One line of a benchmark.
pub(crate) struct Row {
    pub op: String,
    pub variant: String,
    /// Whether models would use this variant.
    pub pick: bool,
    pub shape: String,
    pub dtype: String,
    pub outcome: Outcome,
}

/// What became of a row.
pub(crate) enum Outcome {
    /// Right and timed.
    Measured {
        time: Measurement,
        cost: Cost,
        /// Normalised mean squared error against the CPU path.
        error: f64,
    },
    /// Wrong, so not timed; or the device failed.
    Failed { reason: String, error: Option<f64> },
    /// The variant does not run here.
    NotRun(String),
}

impl Row {
    /// The row under [`KEYS`]; what was not measured is null.
    pub fn json(&self, place: &Place) -> Value {
        let mut row: serde_json::Map<_, _> =
            KEYS.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
        let mut set = |key: &str, value: Value| row.insert(key.to_owned(), value);
        set("op", json!(self.op));
        set("variant", json!(self.variant));
        set("shape", json!(self.shape));
        set("dtype", json!(self.dtype));
        set("device", json!(place.device));
        set("driver", json!(place.driver));
        set("pick", json!(self.pick));
        match &self.outcome {
            Outcome::Measured { time, cost, error } => {
                set("median_ns", json!(time.median_ns));
                set("min_ns", json!(time.min_ns));
                set("max_ns", json!(time.max_ns));
                set("samples", json!(time.samples));
                set("gflops", json!(cost.flops / time.median_ns));
                set("gbytes_per_s", json!(cost.bytes / time.median_ns));
                set("roofline", json!(self.fraction(place)));
                set("error", json!(error));
                set("clock", json!(time.clock.name()));
                set("status", json!("measured"));
            }
            Outcome::Failed { reason, error } => {
                set("error", json!(error));
                set("status", json!("failed"));
                set("reason", json!(reason));
            }
            Outcome::NotRun(reason) => {
                set("status", json!("not run"));
                set("reason", json!(reason));
            }
        }
        Value::Object(row)
    }

    /// Share of the device's limits that the median reached.
    pub fn fraction(&self, place: &Place) -> Option<f64> {
        let Outcome::Measured { time, cost, .. } = &self.outcome else { return None };
        place.roofline.map(|limits| limits.fraction(*cost, time.median_ns))
    }

    /// Cells for people: see [`HEADER`]. What did not run has none; it is told below the table.
    pub fn cells(&self, place: &Place) -> Option<Vec<String>> {
        let mark = if self.pick { " <-" } else { "" };
        let variant = format!("{}{mark}", self.variant);
        let mut cells = [&self.op, &variant, &self.shape, &self.dtype].map(String::clone).to_vec();
        match &self.outcome {
            Outcome::Measured { time, cost, error } => cells.extend([
                span(time.median_ns),
                format!("{} to {}", span(time.min_ns), span(time.max_ns)),
                digits(cost.flops / time.median_ns),
                digits(cost.bytes / time.median_ns),
                self.fraction(place).map_or_else(String::new, |f| format!("{:.1}%", f * 100.0)),
                format!("{error:.1e}"),
            ]),
            Outcome::Failed { error, .. } => {
                cells.push("FAILED".to_owned());
                cells.extend([const { String::new() }; 4]);
                cells.push(error.map_or_else(String::new, |e| format!("{e:.1e}")));
            }
            Outcome::NotRun(_) => return None,
        }
        Some(cells)
    }
}

/// One line for every reason why a variant has no time, with the shapes it holds for.
pub(super) fn complaints(rows: &[Row]) -> Vec<String> {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for row in rows {
        let (what, reason) = match &row.outcome {
            Outcome::Measured { .. } => continue,
            Outcome::Failed { reason, .. } => ("FAILED", reason),
            Outcome::NotRun(reason) => ("not run:", reason),
        };
        let line = format!("{what} {} {}: {reason}", row.op, row.variant);
        match found.iter_mut().find(|(known, _)| *known == line) {
            Some((_, shapes)) => shapes.push(&row.shape),
            None => found.push((line, vec![&row.shape])),
        }
    }
    found.iter().map(|(line, shapes)| format!("{line} ({})", shapes.join(", "))).collect()
}

/// Column titles for people.
pub(super) const HEADER: [&str; 10] =
    ["op", "variant", "shape", "dtype", "median", "spread", "GFLOP/s", "GB/s", "roofline", "error"];

impl Place {
    /// Device, driver, clock and limits in one line.
    pub fn describe(&self, rows: &[Row]) -> String {
        let mut text = format!("{} ({})", self.device, self.driver);
        let clock = rows.iter().find_map(|row| match &row.outcome {
            Outcome::Measured { time, .. } => Some(time.clock.name()),
            _ => None,
        });
        if let Some(clock) = clock {
            text += &format!(", {clock}");
        }
        if let Some(limits) = self.roofline {
            text += &format!(
                ", limits measured here: {} GFLOP/s f32, {} GB/s copy",
                digits(limits.flops_per_s / 1e9),
                digits(limits.bytes_per_s / 1e9)
            );
        }
        text
    }
}

/// A duration with three significant digits.
pub(super) fn span(ns: f64) -> String {
    let (scale, unit) = match ns {
        1e9.. => (1e9, "s"),
        1e6.. => (1e6, "ms"),
        1e3.. => (1e3, "µs"),
        _ => (1.0, "ns"),
    };
    format!("{} {unit}", digits(ns / scale))
}

/// Three significant digits, without an exponent.
pub(super) fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        99.95.. => 0,
        9.995.. => 1,
        0.9995.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (ns, text) in [
            (0.5, "0.500 ns"),
            (12.34, "12.3 ns"),
            (1234.0, "1.23 µs"),
            (99_960.0, "100 µs"),
            (2.5e6, "2.50 ms"),
            (3.2e9, "3.20 s"),
            (412e9, "412 s"),
        ] {
            assert_eq!(span(ns), text);
        }
    }
}
