//! `bench compare`: what changed between two results, told from what is noise.
//!
//! The noise of a row is the span from its 10th to its 90th percentile, or from its fastest to its
//! slowest sample in results without percentiles. Spans that do not meet differ beyond it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::report::{Format, csv, table};
use super::rows::{digits, span};
use crate::cli::context::{Context, failed, read_text};
use crate::error::{Error, Result};

#[derive(clap::Args)]
pub(super) struct CompareArgs {
    /// The earlier result, as `bench -o json` or `-o jsonl` writes it
    old: PathBuf,
    /// The later one
    new: PathBuf,
}

/// Fewest samples that show how much a time varies.
const LEAST_SAMPLES: u64 = 3;

/// A row of a result, as far as it is compared.
#[derive(Clone, Debug, PartialEq)]
struct Timed {
    op: String,
    variant: String,
    shape: String,
    dtype: String,
    device: String,
    /// Whether models would use this variant.
    pick: bool,
    /// `None` where it was not timed.
    time: Option<Time>,
    status: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Time {
    median: f64,
    low: f64,
    high: f64,
    samples: u64,
}

impl Timed {
    fn of(row: &Value) -> Result<Self, String> {
        let text = |key: &str| {
            let value = row[key].as_str().map(str::to_owned);
            value.ok_or_else(|| format!("no `{key}`: not a row of bench -o json or jsonl"))
        };
        let number = |key: &str| row[key].as_f64().filter(|ns| ns.is_finite() && *ns > 0.0);
        let time = match (row["median_ns"].is_null(), number("median_ns")) {
            (true, _) => None,
            (false, None) => return Err("`median_ns` is not a positive number".to_owned()),
            (false, Some(median)) => {
                let either = |a, b| number(a).or_else(|| number(b)).unwrap_or(median);
                let (low, high) = (either("p10_ns", "min_ns"), either("p90_ns", "max_ns"));
                Some(Time { median, low, high, samples: row["samples"].as_u64().unwrap_or(1) })
            }
        };
        Ok(Self {
            op: text("op")?,
            variant: text("variant")?,
            shape: text("shape")?,
            dtype: text("dtype")?,
            device: text("device")?,
            pick: row["pick"].as_bool().unwrap_or(false),
            time,
            status: row["status"].as_str().unwrap_or("measured").to_owned(),
        })
    }

    /// Whether it is the same work.
    fn same_work(&self, other: &Self) -> bool {
        (&self.op, &self.shape, &self.dtype) == (&other.op, &other.shape, &other.dtype)
    }

    fn name(&self) -> String {
        format!("{} {} {} {}", self.op, self.variant, self.shape, self.dtype)
    }
}

/// What is said of a pair of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Faster,
    Slower,
    /// The spans meet.
    Noise,
    /// Too few samples to know the noise.
    Unknown,
    /// Timed before and not any more, or the other way round.
    Stopped,
    Started,
    /// Never timed.
    Neither,
    OnlyOld,
    OnlyNew,
}

impl Change {
    fn words(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Noise => "within noise",
            Self::Unknown => "noise unknown",
            Self::Stopped => "no longer timed",
            Self::Started => "now timed",
            Self::Neither => "not timed",
            Self::OnlyOld => "only in the old",
            Self::OnlyNew => "only in the new",
        }
    }
}

/// A row of both results, or of one.
struct Pair {
    old: Option<Timed>,
    new: Option<Timed>,
}

impl Pair {
    fn ratio(&self) -> Option<f64> {
        Some(self.new.as_ref()?.time?.median / self.old.as_ref()?.time?.median)
    }

    fn change(&self) -> Change {
        let (old, new) = match (&self.old, &self.new) {
            (Some(old), Some(new)) => (old.time, new.time),
            (Some(_), None) => return Change::OnlyOld,
            _ => return Change::OnlyNew,
        };
        match (old, new) {
            (None, None) => Change::Neither,
            (Some(_), None) => Change::Stopped,
            (None, Some(_)) => Change::Started,
            (Some(old), Some(new)) if old.samples.min(new.samples) < LEAST_SAMPLES => {
                Change::Unknown
            }
            (Some(old), Some(new)) if new.low > old.high => Change::Slower,
            (Some(old), Some(new)) if new.high < old.low => Change::Faster,
            _ => Change::Noise,
        }
    }

    /// The row of the newer result, else of the older one.
    fn row(&self) -> Option<&Timed> {
        self.new.as_ref().or(self.old.as_ref())
    }

    /// The kernel, or both where the choice changed.
    fn variant(&self) -> String {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) if old.variant != new.variant => {
                format!("{} -> {}", old.variant, new.variant)
            }
            _ => self.row().map(|row| row.variant.clone()).unwrap_or_default(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let Some(row) = self.row() else { return Vec::new() };
        let time = |row: &Option<Timed>| match row {
            None => String::new(),
            Some(Timed { time: None, status, .. }) => status.clone(),
            Some(Timed { time: Some(time), .. }) => span(time.median),
        };
        vec![
            row.op.clone(),
            self.variant(),
            row.shape.clone(),
            row.dtype.clone(),
            time(&self.old),
            time(&self.new),
            self.ratio().map_or_else(String::new, digits),
            self.change().words().to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let row = self.row();
        let text = |get: fn(&Timed) -> &String| row.map(get);
        let median = |row: &Option<Timed>| row.as_ref().and_then(|row| Some(row.time?.median));
        json!({
            "op": text(|row| &row.op),
            "variant": self.variant(),
            "shape": text(|row| &row.shape),
            "dtype": text(|row| &row.dtype),
            "old_ns": median(&self.old),
            "new_ns": median(&self.new),
            "ratio": self.ratio(),
            "change": self.change().words(),
        })
    }
}

const KEYS: [&str; 8] = ["op", "variant", "shape", "dtype", "old_ns", "new_ns", "ratio", "change"];
const HEADER: [&str; 8] = ["op", "variant", "shape", "dtype", "old", "new", "new / old", "change"];

pub(super) fn run(
    context: &Context,
    args: &CompareArgs,
    output: Option<Format>,
    assert: Option<f64>,
    html: Option<PathBuf>,
) -> Result<()> {
    if html.is_some() {
        return failed("--html: compare writes no page");
    }
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let (from, to) = (devices(&old), devices(&new));
    let pairs = pairs(old, new);
    match Format::asked(output, context) {
        Format::Md => {
            let on = if from == to { from } else { format!("old: {from}, new: {to}") };
            let noise = "noise: 10th to 90th percentile, or fastest to slowest";
            context.line(&format!("{on}, {noise}\n"))?;
            context.line(&table(&HEADER, pairs.iter().map(Pair::cells), 4))?;
        }
        Format::Csv => {
            context.line(&KEYS.join(","))?;
            for pair in &pairs {
                context.line(&csv(&pair.json(), &KEYS))?;
            }
        }
        Format::Json => {
            let rows: Vec<_> = pairs.iter().map(Pair::json).collect();
            context.line(&serde_json::to_string_pretty(&rows).unwrap_or_default())?;
        }
        Format::Jsonl => {
            for pair in &pairs {
                context.line(&pair.json().to_string())?;
            }
        }
    }
    match assert.map(|percent| (percent, worse(&pairs, percent))) {
        Some((percent, worse)) if !worse.is_empty() => {
            failed(format!("--assert {percent}: {}", worse.join("; ")))
        }
        _ => Ok(()),
    }
}

/// What `--assert` fails on, in words.
fn worse(pairs: &[Pair], percent: f64) -> Vec<String> {
    if pairs.iter().all(|pair| pair.ratio().is_none()) {
        return vec!["the results have no timed row in common".to_owned()];
    }
    let found = pairs.iter().filter_map(|pair| {
        let name = pair.row()?.name();
        match pair.change() {
            Change::Slower => {
                let slower = (pair.ratio()? - 1.0) * 100.0;
                (slower > percent).then(|| format!("{name} takes {slower:.0}% longer"))
            }
            Change::Stopped => Some(format!("{name} is no longer timed")),
            Change::Unknown => {
                Some(format!("{name} has under {LEAST_SAMPLES} samples, so its noise is unknown"))
            }
            _ => None,
        }
    });
    found.collect()
}

/// Rows that are the same work and variant; then works whose one chosen kernel became another.
///
/// Results of the same devices are compared device by device; others are two devices compared.
fn pairs(old: Vec<Timed>, new: Vec<Timed>) -> Vec<Pair> {
    let alike = devices(&old) == devices(&new);
    let comparable =
        |old: &Timed, new: &Timed| new.same_work(old) && (!alike || new.device == old.device);
    let mut left: Vec<_> = new.into_iter().map(Some).collect();
    let mut pairs: Vec<_> = old
        .into_iter()
        .map(|old| {
            let same = |new: &&mut Option<Timed>| {
                new.as_ref().is_some_and(|new| comparable(&old, new) && new.variant == old.variant)
            };
            let new = left.iter_mut().find(same).and_then(Option::take);
            Pair { old: Some(old), new }
        })
        .collect();
    for pair in &mut pairs {
        let (Some(old), None) = (&pair.old, &pair.new) else { continue };
        let same = |new: &&mut Option<Timed>| {
            new.as_ref().is_some_and(|new| comparable(old, new) && new.pick && old.pick)
        };
        pair.new = left.iter_mut().find(same).and_then(Option::take);
    }
    pairs.extend(left.into_iter().flatten().map(|new| Pair { old: None, new: Some(new) }));
    pairs
}

/// The devices of a result, each once.
fn devices(rows: &[Timed]) -> String {
    let mut names: Vec<_> = rows.iter().map(|row| row.device.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(" and ")
}

fn read(path: &Path) -> Result<Vec<Timed>> {
    rows(&read_text(path)?).map_err(|message| Error::file(path, message))
}

/// Rows of one array, or of one object per line.
fn rows(text: &str) -> Result<Vec<Timed>, String> {
    let rows: Vec<(String, Value)> = if text.trim_start().starts_with('[') {
        let all: Vec<Value> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        all.into_iter().enumerate().map(|(i, row)| (format!("row {}", i + 1), row)).collect()
    } else {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let one = |(i, line): (usize, &str)| {
            let at = format!("line {}", i + 1);
            let row = serde_json::from_str(line).map_err(|e| format!("{at}: {e}"))?;
            Ok((at, row))
        };
        lines.map(one).collect::<Result<_, String>>()?
    };
    if rows.is_empty() {
        return Err("no rows".to_owned());
    }
    rows.iter().map(|(at, row)| Timed::of(row).map_err(|e| format!("{at}: {e}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(variant: &str, median: f64, spread: f64) -> Value {
        json!({
            "op": "matmul", "variant": variant, "shape": "8x8x8", "dtype": "f32", "device": "d",
            "median_ns": median, "p10_ns": median - spread, "p90_ns": median + spread,
            "samples": 10, "pick": true, "status": "measured",
        })
    }

    fn compared(old: &[Value], new: &[Value]) -> Vec<Pair> {
        let read = |rows: &[Value]| rows.iter().map(|r| Timed::of(r).expect("a row")).collect();
        pairs(read(old), read(new))
    }

    #[test]
    fn only_spans_that_do_not_meet_are_a_change() {
        for (new, spread, change) in [
            (100.0, 5.0, Change::Noise),
            (109.0, 5.0, Change::Noise),
            (111.0, 5.0, Change::Slower),
            (89.0, 5.0, Change::Faster),
            (140.0, 40.0, Change::Noise),
        ] {
            let found = compared(&[row("a", 100.0, 5.0)], &[row("a", new, spread)]);
            assert_eq!((found.len(), found[0].change()), (1, change), "{new} within {spread}");
        }
    }

    #[test]
    fn older_results_have_fastest_and_slowest_only() {
        let mut old = row("a", 100.0, 5.0);
        for (from, to) in [("p10_ns", "min_ns"), ("p90_ns", "max_ns")] {
            old[to] = old[from].take();
        }
        let found = compared(&[old], &[row("a", 120.0, 5.0)]);
        assert_eq!(found[0].change(), Change::Slower);
    }

    #[test]
    fn few_samples_leave_the_noise_unknown_and_fail_the_assertion() {
        let mut old = row("a", 100.0, 0.0);
        old["samples"] = json!(2);
        let found = compared(&[old], &[row("a", 100.0, 0.0)]);
        assert_eq!(found[0].change(), Change::Unknown);
        assert!(worse(&found, 5.0)[0].contains("noise is unknown"));
    }

    #[test]
    fn the_assertion_allows_so_many_percent_and_no_lost_row() {
        let found = compared(&[row("a", 100.0, 1.0)], &[row("a", 110.0, 1.0)]);
        assert!(worse(&found, 15.0).is_empty());
        assert_eq!(worse(&found, 5.0), ["matmul a 8x8x8 f32 takes 10% longer"]);
        let mut lost = row("a", 100.0, 1.0);
        lost["median_ns"] = Value::Null;
        let found =
            compared(&[row("a", 9.0, 1.0), row("b", 9.0, 1.0)], &[lost, row("b", 9.0, 1.0)]);
        assert_eq!(worse(&found, 5.0), ["matmul a 8x8x8 f32 is no longer timed"]);
        let none = compared(&[row("a", 9.0, 1.0)], &[]);
        assert_eq!(none[0].change(), Change::OnlyOld);
        assert_eq!(worse(&none, 5.0), ["the results have no timed row in common"]);
    }

    #[test]
    fn another_choice_of_kernel_is_one_row() {
        let found = compared(&[row("a", 100.0, 1.0)], &[row("b", 50.0, 1.0)]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].variant(), found[0].change()), ("a -> b".to_owned(), Change::Faster));
    }

    #[test]
    fn a_result_is_an_array_or_lines() {
        let one = row("a", 100.0, 1.0);
        let lines = format!("{one}\n\n{one}\n");
        assert_eq!(rows(&lines).map(|rows| rows.len()), Ok(2));
        assert_eq!(rows(&format!(" [{one}]")).map(|rows| rows.len()), Ok(1));
        for (text, message) in [
            ("", "no rows"),
            ("[]", "no rows"),
            ("{}", "line 1: no `op`"),
            ("[1]", "row 1: no `op`"),
            ("op,variant", "line 1: "),
        ] {
            let error = rows(text).expect_err(text);
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
