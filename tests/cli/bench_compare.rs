//! `tilewright bench compare`: results of `bench` told apart from noise.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bench::{answer, bench, stderr, stdout};

/// A file of its own in a folder of its own.
struct Results(PathBuf);

impl Results {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.join(format!("bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder of the tests'");
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file of the tests'");
        path.to_str().expect("text").to_owned()
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Every time of a row so many times as long.
fn slowed(row: &Value, factor: f64) -> Value {
    let mut row = row.clone();
    for key in ["median_ns", "min_ns", "max_ns", "p10_ns", "p90_ns"] {
        row[key] = Value::from(row[key].as_f64().expect("a time") * factor);
    }
    row
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

#[test]
fn a_result_equals_itself_and_a_slower_one_fails_the_assertion() {
    let results = Results::new("slower");
    let text = answer("matmul --size 8,16 -r 4 -o json");
    let old = results.write("old.json", &text);
    let rows: Vec<Value> = serde_json::from_str(&text).expect("an array");
    // A row per line is as good as an array.
    let same = results.write("same.jsonl", &lines(&rows));
    let found = answer(&format!("compare {old} {same} --assert 0 -o json"));
    let found: Vec<Value> = serde_json::from_str(&found).expect("an array");
    assert_eq!(found.len(), 2);
    for row in &found {
        assert_eq!((row["ratio"].as_f64(), &row["change"]), (Some(1.0), &"within noise".into()));
    }

    // Beyond any noise that ten runs of a busy machine have.
    let slow = [slowed(&rows[0], 1000.0), rows[1].clone()];
    let slow = results.write("slow.jsonl", &lines(&slow));
    let table = answer(&format!("compare {old} {slow}"));
    assert!(table.contains("1000 | slower") || table.contains("1000 |       slower"), "{table}");
    assert!(table.contains("8x8x8") && table.contains("within noise"), "{table}");
    answer(&format!("compare {old} {slow} --assert 200000"));
    let failed = bench(&format!("compare {old} {slow} --assert 50"));
    let error = stderr(&failed);
    assert_eq!(failed.status.code(), Some(1), "{error}");
    let last = error.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: --assert 50: matmul ") && last.contains("8x8x8"), "{error}");
    assert!(!last.contains("16x16x16"), "{error}");
    assert!(stdout(&failed).contains("slower"), "the table is printed all the same");
    // The other way round it is faster, which nothing forbids.
    assert!(answer(&format!("compare {slow} {old} --assert 0 -o csv")).contains(",faster\n"));
}

#[test]
fn rows_of_one_result_alone_are_listed() {
    let results = Results::new("alone");
    let row = |shape: &str| {
        serde_json::json!({
            "op": "norm", "variant": "v", "shape": shape, "dtype": "f32", "device": "d",
            "median_ns": 10.0, "min_ns": 9.0, "max_ns": 11.0, "samples": 5,
        })
    };
    let old = results.write("old.jsonl", &lines(&[row("1x1"), row("2x2")]));
    let new = results.write("new.jsonl", &lines(&[row("2x2"), row("3x3")]));
    let found = answer(&format!("compare {old} {new} --json"));
    let found: Vec<Value> =
        found.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let said = |row: &Value| format!("{} {}", row["shape"], row["change"]).replace('"', "");
    let said: Vec<_> = found.iter().map(said).collect();
    assert_eq!(said, ["1x1 only in the old", "2x2 within noise", "3x3 only in the new"]);
}

#[test]
fn what_is_no_result_fails_in_one_line() {
    let results = Results::new("bad");
    let good = results.write(
        "good.jsonl",
        "{\"op\":\"a\",\"variant\":\"b\",\"shape\":\"c\",\"dtype\":\"d\",\"device\":\"e\",\
         \"median_ns\":1.0,\"samples\":1}\n",
    );
    for (name, text, words) in [
        ("empty", "", "no rows"),
        ("prose", "fast, very fast\n", "line 1: "),
        ("other", "[{\"model\":\"bert\"}]", "row 1: no `op`"),
        ("broken", "{\"op\":\"a\"", "line 1: "),
        ("late", "\n\n3\n", "line 3: no `op`"),
    ] {
        let bad = results.write(name, text);
        let failed = bench(&format!("compare {good} {bad}"));
        let error = stderr(&failed);
        assert_eq!(failed.status.code(), Some(1), "{name}: {error}");
        let last = error.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: ") && last.contains(words), "{name}: {error}");
        assert!(last.contains(name) && stdout(&failed).is_empty(), "{name}: {error}");
    }
    for (arguments, words) in [
        (format!("compare {good} /nowhere/at/all.json"), "/nowhere/at/all.json"),
        (format!("compare {good} {good} --assert 5"), "noise is unknown"),
        (format!("compare {good} {good} --html page.html"), "compare writes no page"),
    ] {
        let failed = bench(&arguments);
        let error = stderr(&failed);
        assert_eq!(failed.status.code(), Some(1), "{arguments}: {error}");
        assert!(error.trim_end().lines().last().unwrap_or_default().contains(words), "{error}");
    }
}
