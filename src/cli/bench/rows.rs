//! Rows of a benchmark, and what their cells say.

use std::time::Duration;

use serde_json::{Value, json};

use super::work::Curve;
use crate::graph::LoadTimes;
use crate::ops::Cost;
use crate::ops::bench::{Measurement, Roofline};

/// Keys of a row in every machine-readable form.
pub(crate) const KEYS: [&str; 32] = [
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
    "p10_ns",
    "p90_ns",
    "peak_share",
    "copy_share",
    "peak_gflops",
    "copy_gbytes_per_s",
    "extra_bytes",
    "length",
    "cache",
    "repeat",
    "load_ms",
    "compile_ms",
    "upload_gb_s",
    "first_token_ms",
];

/// What the caches hold when a sample begins: repeats read the same operands back to back.
const CACHE: &str = "warm";

/// Where the rows were measured.
pub(crate) struct Place {
    pub device: String,
    pub driver: String,
    /// The device's limits; `None` on the CPU route.
    pub roofline: Option<Roofline>,
}

/// What it took until a model gave its first result.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub load: LoadTimes,
    /// From opening the model to its first token or result, loading included.
    pub first: Duration,
}

impl Start {
    /// Bytes per nanosecond of upload; `None` where nothing was.
    fn upload_gb_s(&self) -> Option<f64> {
        let ns = self.load.upload.as_nanos() as f64;
        (self.load.uploaded > 0 && ns > 0.0).then(|| self.load.uploaded as f64 / ns)
    }
}

/// One line of a benchmark.
pub(crate) struct Row {
    pub op: String,
    pub variant: String,
    /// Whether models would use this variant.
    pub pick: bool,
    pub shape: String,
    pub dtype: String,
    /// The command line that repeats it.
    pub repeat: String,
    /// Where it stands on the plots against length.
    pub curve: Option<Curve>,
    /// Of models on a device.
    pub start: Option<Start>,
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
        /// Bytes of memory besides operands and results, where they are known.
        extra: Option<u64>,
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
        set("repeat", json!(self.repeat));
        set("length", json!(self.curve.as_ref().map(|curve| curve.length)));
        if let Some(start) = &self.start {
            let ms = |time: Duration| json!(time.as_secs_f64() * 1e3);
            set("load_ms", ms(start.load.ready));
            set("compile_ms", ms(start.load.compile));
            set("upload_gb_s", json!(start.upload_gb_s()));
            set("first_token_ms", ms(start.first));
        }
        if let Some(limits) = place.roofline {
            set("peak_gflops", json!(limits.flops_per_s / 1e9));
            set("copy_gbytes_per_s", json!(limits.bytes_per_s / 1e9));
        }
        match &self.outcome {
            Outcome::Measured { time, cost, error, extra } => {
                set("median_ns", json!(time.median_ns));
                set("p10_ns", json!(time.p10_ns));
                set("p90_ns", json!(time.p90_ns));
                set("peak_share", json!(self.peak_share(place)));
                set("copy_share", json!(self.copy_share(place)));
                set("extra_bytes", json!(extra));
                set("cache", json!(CACHE));
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

    /// Operations per second as a share of the measured peak.
    pub fn peak_share(&self, place: &Place) -> Option<f64> {
        Some(self.gflops()? * 1e9 / place.roofline?.flops_per_s)
    }

    /// Bytes per second as a share of the measured copy.
    pub fn copy_share(&self, place: &Place) -> Option<f64> {
        Some(self.gbytes_per_s()? * 1e9 / place.roofline?.bytes_per_s)
    }

    /// 10^9 operations per second.
    pub fn gflops(&self) -> Option<f64> {
        let Outcome::Measured { time, cost, .. } = &self.outcome else { return None };
        Some(cost.flops / time.median_ns)
    }

    /// 10^9 bytes per second.
    pub fn gbytes_per_s(&self) -> Option<f64> {
        let Outcome::Measured { time, cost, .. } = &self.outcome else { return None };
        Some(cost.bytes / time.median_ns)
    }
}

/// A unit that fits the largest of some values given in 10^9 per second.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    pub name: &'static str,
    scale: f64,
}

impl Unit {
    /// `small` stands for 10^9, `large` for 10^12.
    pub fn of(values: impl Iterator<Item = f64>, small: &'static str, large: &'static str) -> Self {
        if values.fold(0.0, f64::max) >= 1e3 {
            Self { name: large, scale: 1e-3 }
        } else {
            Self { name: small, scale: 1.0 }
        }
    }

    /// The unit of operations per second for these rows.
    pub fn rate(rows: &[Row]) -> Self {
        Self::of(rows.iter().filter_map(Row::gflops), "GFLOP/s", "TFLOP/s")
    }

    /// A value given in 10^9 per second.
    pub fn convert(self, value: f64) -> f64 {
        value * self.scale
    }
}

/// Columns for people; units fit the rows, and memory is a column where some row needs any.
pub(super) struct Columns<'a> {
    place: &'a Place,
    rate: Unit,
    traffic: Unit,
    extra: bool,
}

impl<'a> Columns<'a> {
    pub fn new(place: &'a Place, rows: &[Row]) -> Self {
        let traffic = Unit::of(rows.iter().filter_map(Row::gbytes_per_s), "GB/s", "TB/s");
        let extra = |row: &Row| match row.outcome {
            Outcome::Measured { extra, .. } => extra.is_some_and(|bytes| bytes > 0),
            _ => false,
        };
        Self { place, rate: Unit::rate(rows), traffic, extra: rows.iter().any(extra) }
    }

    /// Column titles.
    pub fn header(&self) -> Vec<&'static str> {
        let mut titles = vec!["op", "variant", "shape", "dtype", "median", "spread"];
        titles.extend([self.rate.name, "of peak", self.traffic.name, "of copy", "roofline"]);
        titles.extend(self.extra.then_some("extra memory"));
        titles.push("error");
        titles
    }

    /// A row's cells. What did not run has none; it is told below the table.
    pub fn cells(&self, row: &Row) -> Option<Vec<String>> {
        let mark = if row.pick { " <-" } else { "" };
        let variant = format!("{}{mark}", row.variant);
        let mut cells = [&row.op, &variant, &row.shape, &row.dtype].map(String::clone).to_vec();
        let share = |share: Option<f64>| {
            share.map_or_else(String::new, |share| format!("{:.1}%", share * 100.0))
        };
        let rate = |value: Option<f64>, unit: Unit| {
            value.map_or_else(String::new, |value| digits(unit.convert(value)))
        };
        match &row.outcome {
            Outcome::Measured { time, error, extra, .. } => {
                cells.extend([
                    span(time.median_ns),
                    format!("{} to {}", span(time.min_ns), span(time.max_ns)),
                    rate(row.gflops(), self.rate),
                    share(row.peak_share(self.place)),
                    rate(row.gbytes_per_s(), self.traffic),
                    share(row.copy_share(self.place)),
                    share(row.fraction(self.place)),
                ]);
                cells.extend(self.extra.then(|| extra.map_or_else(String::new, memory)));
                cells.push(format!("{error:.1e}"));
            }
            Outcome::Failed { error, .. } => {
                cells.push("FAILED".to_owned());
                cells.extend(vec![String::new(); self.header().len() - cells.len() - 1]);
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
        text + &format!(", caches {CACHE}: samples repeat on the same operands")
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

/// Bytes with three significant digits.
pub(super) fn memory(bytes: u64) -> String {
    let bytes = bytes as f64;
    let (scale, unit) = match bytes {
        1_073_741_824.0.. => (30, "GiB"),
        1_048_576.0.. => (20, "MiB"),
        1024.0.. => (10, "KiB"),
        _ => return format!("{bytes} B"),
    };
    format!("{} {unit}", digits(bytes / 2f64.powi(scale)))
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

    #[test]
    fn memory_has_three_digits_and_units_fit_the_largest_value() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (3 << 30, "3.00 GiB")]
        {
            assert_eq!(memory(bytes), text);
        }
        let unit = |values: &[f64]| Unit::of(values.iter().copied(), "GB/s", "TB/s");
        assert_eq!(unit(&[1.0, 999.0]).name, "GB/s");
        let large = unit(&[1.0, 4000.0]);
        assert_eq!((large.name, large.convert(4000.0)), ("TB/s", 4.0));
    }
}
