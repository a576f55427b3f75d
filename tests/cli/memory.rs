//! The memory of a whole run, as the kernel counts it.

use std::path::Path;
use std::process::Stdio;

use crate::program::{built, device};

/// Loading keeps at most one copy of the model (the device's own, which on a software driver
/// is host memory too) and a bounded amount beside it.
#[test]
fn host_memory_while_loading_stays_bounded() {
    // A process of its own, so that other tests' memory does not count, and a first start: kernels
    // are compiled and certified too.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("first start");
    let _ = std::fs::remove_dir_all(&cache);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/all-MiniLM-L6-v2");
    let mut child = built()
        .args(["embed", "--similarity", "hello", "--device", &device(), "--model"])
        .arg(&folder)
        .env("TILEWRIGHT_CACHE", cache)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    // VmHWM only grows, so the last reading before the end is the peak.
    let outcome = loop {
        if let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse().ok());
            peak = kib.unwrap_or(peak);
        }
        if let Some(outcome) = child.try_wait().unwrap() {
            break outcome;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(outcome.success());
    let model = folder.join("model.safetensors").metadata().unwrap().len() / 1024;
    assert!(peak > model, "peak {peak} KiB is less than the model: not measured");
    assert!(peak < model + 256 * 1024, "peak {peak} KiB, model {model} KiB");
}
