//! The arrows of the house: imports point downward only, wgpu stays in its room, files stay
//! readable.

use std::path::{Path, PathBuf};

/// Rooms from the top down; each may use those after it.
const ROOMS: [&str; 8] = ["cli", "tasks", "engine", "models", "nn", "graph", "ops", "gpu"];
/// What every room may use.
const GROUND: [&str; 7] = ["tensor", "sym", "format", "activation", "error", "files", "trusted"];
/// Rooms beside the stack, used from `nn` upward, which use the ground only.
const SIDE: [&str; 2] = ["weights", "text"];

fn files(dir: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files(&path, extension, out);
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
}

fn sources(dir: &str, extension: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    files(&root.join(dir), extension, &mut found);
    assert!(!found.is_empty(), "no files in {dir}");
    let relative = |p: &PathBuf| {
        let path = p.strip_prefix(root.join(dir)).expect("below the root");
        path.to_string_lossy().replace('\\', "/")
    };
    found
        .iter()
        .map(|p| (relative(p), std::fs::read_to_string(p).expect("readable text")))
        .collect()
}

/// Code lines: no comments, nothing from the first test module on, nothing of a file that is a
/// test module.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|l| !l.starts_with("#[cfg(test)]") && !l.starts_with("#![cfg(test)]"))
        .map(|l| l.split("//").next().unwrap_or(""))
}

/// Rooms named as `crate::room` on a line, also inside `use crate::{a, b}`.
fn rooms_used(line: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        match rest.strip_prefix('{') {
            Some(list) => used.extend(list.split(',').map(|part| word(part.trim()))),
            None => used.push(word(rest)),
        }
    }
    used
}

#[test]
fn imports_point_downward_only() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src", "rs") {
        let room = file.split(['/', '.']).next().unwrap_or_default().to_owned();
        if room == "lib" || room == "main" {
            continue;
        }
        let position = ROOMS.iter().position(|r| *r == room);
        for line in code(&text) {
            for used in rooms_used(line) {
                if used == room || GROUND.contains(&used.as_str()) {
                    continue;
                }
                let allowed = match (position, ROOMS.iter().position(|r| *r == used)) {
                    (Some(from), Some(to)) => to > from,
                    // Only what builds models reads model folders.
                    (Some(from), None) if SIDE.contains(&used.as_str()) => from <= 4,
                    (_, None) => !SIDE.contains(&used.as_str()) && !ROOMS.contains(&used.as_str()),
                    (None, Some(_)) => false,
                };
                if !allowed {
                    wrong.push(format!("{file} uses crate::{used}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point up:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_gpu_room_and_the_embedders_door_name_wgpu() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src", "rs") {
        if ["gpu/", "trusted/", "graph/embed.rs"].iter().any(|room| file.starts_with(room)) {
            continue;
        }
        for line in code(&text).filter(|l| l.contains("wgpu::") || l.contains("naga::")) {
            wrong.push(format!("{file}: {}", line.trim()));
        }
    }
    assert!(wrong.is_empty(), "wgpu outside its room:\n{}", wrong.join("\n"));
}

#[test]
fn models_name_no_kernel() {
    for (file, text) in sources("src", "rs") {
        let above =
            ["cli/", "tasks/", "engine/", "models/", "nn/"].iter().any(|r| file.starts_with(r));
        assert!(!above || !text.contains("shader!"), "{file} names a shader");
    }
}

#[test]
fn no_file_is_over_500_lines() {
    for (dir, extension) in [("src", "rs"), ("shaders", "wgsl")] {
        for (file, text) in sources(dir, extension) {
            let lines = text.lines().count();
            assert!(lines <= 500, "{dir}/{file} has {lines} lines");
        }
    }
}

#[test]
fn unsafe_stands_in_one_place() {
    for (file, text) in sources("src", "rs") {
        let found = code(&text).any(|l| l.contains("unsafe {") || l.contains("unsafe fn"));
        assert!(!found || file.starts_with("trusted/"), "{file} has unsafe code");
    }
}

/// Library paths answer with errors; a panic needs an argument beside it.
#[test]
fn library_code_does_not_unwrap() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src", "rs") {
        for line in code(&text) {
            for word in [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("] {
                if line.contains(word) {
                    wrong.push(format!("{file}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "panics on library paths:\n{}", wrong.join("\n"));
}
