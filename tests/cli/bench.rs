//! `tilewright bench` as scripts see it: every form of its answer, and its exit codes.

use std::process::{Command, Output};

use serde_json::Value;

use crate::program::built;

/// Keys that scripts may rely on.
const KEYS: [&str; 13] = [
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
];

/// Keys behind those that are newer; a row on a GPU that was measured has them all.
const NEWER: [&str; 9] = [
    "p10_ns",
    "p90_ns",
    "peak_share",
    "copy_share",
    "peak_gflops",
    "copy_gbytes_per_s",
    "extra_bytes",
    "cache",
    "repeat",
];

/// The rows of an answer in `jsonl`.
pub fn rows(arguments: &str) -> Vec<Value> {
    let text = answer(&format!("{arguments} -o jsonl"));
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
}

/// A row's text under a key.
pub fn word<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("{key} in {row}"))
}

fn command(arguments: &str) -> Command {
    let device = std::env::var("TILEWRIGHT_DEVICE").unwrap_or_else(|_| "0".to_owned());
    let mut command = built();
    command.env("TILEWRIGHT_DEVICE", device).arg("bench").args(arguments.split(' '));
    command
}

pub fn bench(arguments: &str) -> Output {
    command(arguments).output().expect("the program starts")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

pub fn answer(arguments: &str) -> String {
    let output = bench(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", stderr(&output));
    stdout(&output)
}

/// Measured on a GPU, right to ten digits, and all of its figures agree.
pub fn check_measured(row: &Value) {
    for key in KEYS.iter().chain(&NEWER) {
        assert!(!row[*key].is_null(), "{key} in {row}");
    }
    let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
    assert!(number("min_ns") > 0.0, "{row}");
    assert!(number("min_ns") <= number("median_ns"), "{row}");
    assert!(number("median_ns") <= number("max_ns"), "{row}");
    assert!(number("gflops") > 0.0 && number("gbytes_per_s") > 0.0, "{row}");
    assert!(number("min_ns") <= number("p10_ns"), "{row}");
    assert!(number("p10_ns") <= number("median_ns"), "{row}");
    assert!(number("median_ns") <= number("p90_ns"), "{row}");
    assert!(number("p90_ns") <= number("max_ns"), "{row}");
    for (share, rate, limit) in [
        ("peak_share", "gflops", "peak_gflops"),
        ("copy_share", "gbytes_per_s", "copy_gbytes_per_s"),
    ] {
        let expected = number(rate) / number(limit);
        assert!((number(share) / expected - 1.0).abs() < 1e-9, "{share} in {row}");
    }
    assert!(number("roofline") > 0.0 && number("error") < 1e-10, "{row}");
}

#[test]
fn jsonl_has_a_row_per_combination_of_sizes() {
    let text = answer("--json matmul --size 8-16*2 --mnk 4x12x8 -r 3");
    let rows: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect();
    let shapes: Vec<_> = rows.iter().map(|row| row["shape"].as_str().unwrap_or("-")).collect();
    assert_eq!(shapes, ["8x8x8", "16x16x16", "4x12x8"]);
    for row in &rows {
        check_measured(row);
        assert_eq!((row["op"].as_str(), row["samples"].as_u64()), (Some("matmul"), Some(3)));
    }
}

#[test]
fn json_is_one_array_and_the_page_stands_alone() {
    let page = std::env::temp_dir().join(format!("tilewright-{}.html", std::process::id()));
    let text = answer(&format!(
        "attention --heads 2 --kv-heads 1 --dim 16 --seq 8 --causal both -r 2 -o json --html {}",
        page.display()
    ));
    let rows: Vec<Value> = serde_json::from_str(&text).expect("an array");
    let shapes: Vec<_> = rows.iter().map(|row| row["shape"].as_str().unwrap_or("-")).collect();
    assert_eq!(shapes, ["1x2/1x8x16", "1x2/1x8x16 causal"]);
    rows.iter().for_each(check_measured);
    let html = std::fs::read_to_string(&page).expect("the page was written");
    std::fs::remove_file(&page).expect("the page can be removed");
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
    for title in ["Time against length", "FLOP/s against length", "Roofline", "copy ", "f32 peak "]
    {
        assert!(html.contains(title), "{title} in the page");
    }
    let (svgs, rows) = (html.matches("<svg").count(), rows.len());
    assert_eq!(svgs, 5, "time, rate and roofline, bars of rates and of fractions");
    assert_eq!(html.matches("<circle").count(), 3 * rows, "a point per row and plot");
    assert_eq!(html.matches("tilewright bench attention --batch 1").count(), rows, "repeats");
    assert!(html.contains("1x2/1x8x16 causal"));
    assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
    for outside in ["http", "<script", "<link", "src="] {
        assert!(!html.contains(outside), "{outside} in the page");
    }
}

#[test]
fn csv_has_a_header_and_a_record_per_row() {
    let text = answer("norm --rows 3 --cols 64 --norm softmax -r 1 -o csv");
    let lines: Vec<_> = text.lines().collect();
    let [header, record] = lines.as_slice() else { panic!("{text}") };
    assert!(header.starts_with(&KEYS.join(",")), "{header}");
    assert!(record.starts_with("softmax,") && record.contains(",3x64,f32,"), "{record}");
}

#[test]
fn md_lists_every_variant_and_says_why_one_did_not_run() {
    let text = answer("gemv --nk 8x16 --m 4 -r 1 --variants all");
    let table: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert!(table.len() > 2, "{text}");
    let columns = |line: &str| line.matches('|').count();
    assert!(table.iter().all(|line| columns(line) == columns(table[0])), "{text}");
    assert!(table[0].contains("median") && table[0].contains("roofline"), "{text}");
    assert!(text.contains("limits measured here") && text.contains("caches warm"), "{text}");
    assert!(table[0].contains("of peak") && table[0].contains("of copy"), "{text}");
    assert!(text.contains("\n    tilewright bench gemv --nk 8x16 --m 4 --dtype f32"), "{text}");
    let kernels = tilewright::ops::find("matmul").expect("matmul exists").kernels;
    for kernel in kernels {
        let shown =
            text.lines().any(|line| line.contains(kernel.name()) && line.contains("4x8x16"));
        assert!(shown, "{} in {text}", kernel.name());
    }
    assert!(text.contains("not run: gemv matmul_gemv: "), "{text}");
}

#[test]
fn half_weights_and_the_cpu_path_are_measured() {
    let text = answer("gemv --nk 16x32 --dtype f16 -r 1 --json");
    let row: Value = serde_json::from_str(text.trim()).expect("a JSON object");
    check_measured(&row);
    assert_eq!(row["dtype"], "f16");
    let mut storages = Vec::new();
    for row in
        rows("matmul --mnk 8x12x64 --dtype f16,q8_0 --x-dtype f32,f16 --y-dtype f32,f16 -r 1")
    {
        let error = row["error"].as_f64().unwrap_or(f64::NAN);
        // Results in f16 err by its roundoff.
        let stored = word(&row, "dtype").contains("y f16");
        assert!(if stored { (1e-9..5e-7).contains(&error) } else { error < 1e-10 }, "{row}");
        storages.push(word(&row, "dtype").to_owned());
    }
    let expected = ["f16", "f16, y f16", "f16, x f16", "f16, x f16, y f16"];
    assert_eq!(storages[..4], expected, "each weight with each x and y");
    assert_eq!((storages.len(), &*storages[7]), (8, "q8_0, x f16, y f16"));
    let text = answer("norm --rows 2 --cols 8 -r 1 --json --device cpu");
    let row: Value = serde_json::from_str(text.trim()).expect("a JSON object");
    assert_eq!((row["variant"].as_str(), row["status"].as_str()), (Some("cpu"), Some("measured")));
    assert!(row["roofline"].is_null() && row["error"].as_f64() < Some(1e-10), "{row}");
}

#[test]
fn sizes_that_are_none_are_wrong_usage() {
    for arguments in [
        "matmul --size 0",
        "matmul --size 64-32*2",
        "matmul --size 8-64*1",
        "matmul --size x",
        "matmul --mnk 8x8",
        "matmul --mnk 9999999999x8x8",
        "gemv --nk 8",
        "norm --rows 1-1000",
        "norm --norm batch_norm",
        "attention --seq 1,",
        "attention --causal maybe",
        "attention --window 0",
        "attention --softcap 0",
        "attention --bias alibi",
        "attention --mask causal",
        "attention --preset gpt5",
        "attention --baseline cublas",
        "attention --total-tokens 32K",
        "attention --total-tokens 64 --batch 2",
        "attention --dtype f64",
        "matmul --x-dtype bf16",
        "compare a.json",
        "matmul --size 8 -r 0",
        "matmul --size 8 -o xml",
        "convolution",
    ] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments}");
    }
}

/// One line that names what was found and what exists or is allowed; no panic, no abort.
#[test]
fn what_cannot_be_measured_fails_in_one_line() {
    for (arguments, words) in [
        ("matmul --size 8 --variants fastest", "no such variant; there are matmul_gemv, "),
        ("matmul --mnk 8x8x8 --variants matmul_gemv", "nothing was measured"),
        ("attention --heads 3 --kv-heads 2", "cannot share"),
        ("attention --seq 8 --queries 9", "--queries 9 exceeds --seq 8"),
        ("attention --seq 8 --dtype f16,bf16", "--dtype bf16: attention reads keys and values"),
        ("attention --seq 8 --scale inf", "scale inf must be finite"),
        ("attention --seq 16 --total-tokens 15", "--total-tokens 15 is less than one --seq 16"),
        ("attention --seq 8 --baseline naive --device cpu", "--device cpu has none"),
        ("matmul --size 8 --variants naive", "no such variant"),
        ("matmul --size 8 --y-dtype f16 --device cpu", "the CPU path stores results in f32"),
        ("norm --rows 8 --dtype f16", "--dtype f16: norms read f32"),
        ("matmul --mnk 4294967295x4294967295x8", "overflows"),
        ("norm --rows 4294967295 --cols 4294967295", "overflows"),
        ("matmul --mnk 9999999x9999999x1", "largest binding"),
        ("norm --rows 1-256 --cols 1-256", "more than 4096"),
        ("norm --device cpu --rows 4294967295 --cols 99999", "host's memory"),
    ] {
        let output = bench(&format!("{arguments} -r 1 -o jsonl"));
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {error}");
        // Drivers may have written lines of their own before.
        let last = error.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: ") && last.contains(words), "{arguments}: {error}");
        assert!(!error.contains("panicked"), "{arguments}: {error}");
    }
}

/// Rows measured before Ctrl-C are not lost.
#[cfg(unix)]
#[test]
fn an_interrupted_bench_reports_what_it_measured() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    let page = std::env::temp_dir().join(format!("tilewright-int-{}.html", std::process::id()));
    let sizes = "gemv --nk 64x64 --m 1-256 -r 5 -o csv";
    let mut running = command(&format!("{sizes} --html {}", page.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(running.stdout.take().expect("piped")).lines();
    let first = lines.nth(1).expect("a row").expect("text");
    let interrupt = Command::new("kill").args(["-INT", &running.id().to_string()]).status();
    assert!(interrupt.expect("kill exists").success());
    let rest = lines.count();
    let mut error = String::new();
    running.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
    assert_eq!(running.wait().expect("it ends").code(), Some(1), "{error}");
    assert!(error.trim_end().ends_with("error: cancelled"), "{error}");
    assert!(rest < 255, "{rest} more rows after Ctrl-C");
    let html = std::fs::read_to_string(&page).expect("the page was written");
    std::fs::remove_file(&page).expect("the page can be removed");
    assert!(first.contains(",1x64x64,") && html.contains("1x64x64"), "{first}");
}

#[test]
fn a_model_tells_what_its_start_took() {
    let started = ["load_ms", "compile_ms", "upload_gb_s", "first_token_ms"];
    for (what, op) in [("", "model"), (" --new 3", "decode")] {
        let rows = rows(&format!("model --model storyteller --tokens 8{what} -r 3"));
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(word(row, "op"), op);
        let [load, compile, upload, first] =
            started.map(|key| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}")));
        assert!(compile > 0.0 && upload > 0.0, "{row}");
        assert!(compile <= load && load <= first, "{row}");
    }
    let rows = rows("matmul --size 8 -r 3");
    assert!(started.iter().all(|key| rows[0][*key].is_null()), "{}", rows[0]);
}
