//! `tilewright bench attention`: its options, its baseline and the line that repeats a row.

use serde_json::Value;

use crate::bench::{check_measured, rows, word};

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"))
}

/// Operations that a row was credited with.
fn flops(row: &Value) -> f64 {
    (number(row, "gflops") * number(row, "median_ns")).round()
}

/// Whatever the options, fused kernel and baseline give the CPU path's result.
#[test]
fn every_option_is_measured_fused_and_materialised() {
    for (options, count) in [
        ("--window 5 --softcap 3 --causal both --mask none,padding", 4),
        ("--bias tensor,t5 --dtype f32,f16 --batch 2 --mask --scale 0.5", 4),
        ("--bias t5 --causal yes --queries 1,7", 2),
    ] {
        let small = "attention --heads 4 --kv-heads 2 --dim 8 --seq 19 -r 1 --baseline naive";
        let rows = rows(&format!("{small} {options}"));
        assert_eq!(rows.len(), 2 * count, "{options}");
        for pair in rows.chunks(2) {
            pair.iter().for_each(check_measured);
            assert_eq!(
                (word(&pair[1], "variant"), &pair[0]["shape"]),
                ("naive", &pair[1]["shape"])
            );
            assert_ne!(pair[0]["variant"], "naive", "{options}");
            assert_eq!(flops(&pair[0]), flops(&pair[1]), "{options}");
        }
    }
}

#[test]
fn arithmetic_is_that_of_visible_pairs_of_real_keys() {
    let pair = 4.0 * 2.0 * 8.0;
    for (options, pairs) in [
        ("--causal both --window none,2", [64.0, 36.0, 22.0, 15.0].as_slice()),
        ("--causal yes --queries 1,8 --mask none,padding", &[8.0, 36.0, 6.0, 33.0]),
    ] {
        let rows = rows(&format!("attention --heads 2 --dim 8 --seq 8 -r 1 {options}"));
        let found: Vec<_> = rows.iter().map(|row| flops(row) / pair).collect();
        assert_eq!(found, pairs, "{options}");
    }
}

/// The scores twice, the scaled queries and a causal mask, against nothing.
#[test]
fn memory_of_the_baseline_grows_with_the_square_of_the_length() {
    let rows = rows("attention --heads 3 --dim 8 --seq 32,64 --causal yes --baseline naive -r 1");
    for (pair, n) in rows.chunks(2).zip([32, 64]) {
        assert_eq!(pair[0]["extra_bytes"].as_u64(), Some(0), "{}", pair[0]);
        let expected = 4 * (2 * 3 * n * n + 3 * n * 8 + n * n);
        assert_eq!(pair[1]["extra_bytes"].as_u64(), Some(expected), "{}", pair[1]);
        assert_eq!(pair[1]["length"].as_u64(), Some(n));
    }
}

#[test]
fn a_preset_gives_what_is_not_given_and_total_tokens_the_batch() {
    let all = rows(
        "attention --preset gemma-2-9b --heads 2 --kv-heads 1 --dim 8 --window 3 \
         --total-tokens 64 --seq 16,32 -r 1",
    );
    let shapes: Vec<_> = all.iter().map(|row| word(row, "shape")).collect();
    let expected =
        ["4x2/1x16x8 causal window 3 softcap 50", "2x2/1x32x8 causal window 3 softcap 50"];
    assert_eq!(shapes, expected);
    let all = rows("attention --preset bert-base,t5-base --seq 4 -r 1");
    let shapes: Vec<_> = all.iter().map(|row| word(row, "shape")).collect();
    assert_eq!(shapes, ["1x12x4x64", "1x12x4x64 t5 bias scale 1"]);
}

#[test]
fn the_line_of_a_row_repeats_exactly_that_row() {
    for options in [
        "attention --preset t5-base --dtype f16 --total-tokens 32 --seq 8 --queries 2 --mask \
         --window 3 --softcap 2.5 --baseline naive --precision exact",
        "gemv --nk 16x32 --m 2 --dtype f16 --x-dtype f16 --y-dtype f16 --tune off",
        "norm --norm rms_norm --rows 3 --cols 8 --device cpu",
    ] {
        for row in rows(&format!("{options} -r 2")) {
            let line = word(&row, "repeat");
            let again = line.strip_prefix("tilewright bench ").expect("a command line");
            let again = rows(again);
            assert_eq!(again.len(), 1, "{line}");
            for key in ["op", "variant", "shape", "dtype", "samples", "device", "repeat", "status"]
            {
                assert_eq!(again[0][key], row[key], "{key} of {line}");
            }
            assert_eq!(row["status"], "measured", "{row}");
        }
    }
}
