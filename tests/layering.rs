//! The arrows of the house: imports point downward only, wgpu stays in its room, files stay
//! readable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rooms from the top down; each may use those after it.
const ROOMS: [&str; 9] = ["cli", "tasks", "engine", "models", "nn", "graph", "ops", "simt", "gpu"];
/// Rooms whose `mod.rs` is a façade: what it holds, its members hold.
const FACADES: [&str; 10] =
    ["tasks", "engine", "models", "nn", "graph", "ops", "simt", "gpu", "weights", "text"];
/// An op in a folder: its `mod.rs` lists its kernels, and each kernel is written for that op. The
/// files beside it still stand in one order.
const OPS: [&str; 2] = ["ops/attention/mod.rs", "ops/matmul/mod.rs"];
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

/// The name of the module that a source file holds: `ops/matmul/mod.rs` is `ops::matmul`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').map(str::to_owned).collect()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Reads the path that `text` begins with, lists in braces unfolded, behind `start`; says what
/// follows it.
fn unfold<'a>(text: &'a str, start: &[String], out: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = start.to_vec();
    let mut rest = text.trim_start();
    loop {
        if let Some(list) = rest.strip_prefix('{') {
            rest = list.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                let after = unfold(rest, &path, out);
                // `as` and a new name may follow.
                rest = after.find([',', '}']).map_or("", |end| &after[end..]);
                rest = rest.trim_start_matches(',').trim_start();
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        if end > 0 {
            path.push(rest[..end].to_owned());
        }
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(after) if end > 0 => rest = after,
            _ => break,
        }
    }
    out.push(path);
    rest
}

/// All paths with more than one part that code names, and calls of macros as `name!`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(is_name) {
        // What a visibility or a macro for other files names is no import.
        let before = &code[..code.len() - rest.len() + at];
        let skipped = before.ends_with("(in ") || before.ends_with('$');
        let end = rest[at..].find(|c| !is_name(c)).map_or(rest.len(), |n| at + n);
        let (word, after) = (&rest[at..end], &rest[end..]);
        rest = after;
        if let Some(call) = after.strip_prefix('!').filter(|a| !a.starts_with('=')) {
            found.push(vec![format!("{word}!")]);
            rest = call;
        } else if let Some(after) = after.strip_prefix("::") {
            let mut named = Vec::new();
            rest = unfold(after, &[word.to_owned()], &mut named);
            if !skipped {
                found.extend(named);
            }
        }
    }
    found
}

/// File -> the files of the same room that it names, each with the paths that do.
type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Who names whom inside rooms; tests are not looked at.
fn arrows(sources: &[(String, String)]) -> Arrows {
    let mut at = BTreeMap::new();
    let mut macros = BTreeMap::new();
    for (file, text) in sources {
        let module = module_of(file);
        for line in code(text) {
            if let Some(name) = line.trim().strip_prefix("macro_rules! ") {
                macros.insert(name.replace([' ', '{'], "") + "!", file.clone());
            }
        }
        at.insert(module, file.clone());
    }
    let mut arrows = Arrows::new();
    for (file, text) in sources {
        let module = module_of(file);
        if text.starts_with("#![cfg(test)]") || !file.contains('/') {
            continue;
        }
        let from = arrows.entry(file.clone()).or_default();
        for path in paths(&code(text).collect::<Vec<_>>().join("\n")) {
            let mut target = module.clone();
            let mut parts = path.iter().peekable();
            match path[0].as_str() {
                "crate" => target.clear(),
                "self" | "super" => {}
                child if at.contains_key(&[module.clone(), vec![child.to_owned()]].concat()) => {}
                called => {
                    let home = macros.get(called).filter(|home| *home != file);
                    if let Some(home) =
                        home.filter(|h| h.split('/').next() == file.split('/').next())
                    {
                        from.entry(home.clone()).or_default().insert(called.to_owned());
                    }
                    continue;
                }
            }
            while let Some(word) =
                parts.next_if(|p| ["crate", "self", "super"].contains(&p.as_str()))
            {
                if word == "super" {
                    target.pop();
                }
            }
            for part in parts {
                target.push(part.clone());
                if !at.contains_key(&target) {
                    target.pop();
                    break;
                }
            }
            let Some(to) = at.get(&target).filter(|to| *to != file) else { continue };
            let own_op = OPS.contains(&to.as_str()) && module.starts_with(&target);
            if target.first() == module.first() && !own_op {
                from.entry(to.clone()).or_default().insert(path.join("::"));
            }
        }
    }
    arrows
}

/// The arrows that lie on a circle, one a line.
fn circles(arrows: &Arrows) -> Vec<String> {
    let reaches = |from: &str, to: &str| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            if file == to {
                return true;
            }
            if seen.insert(file) {
                next.extend(
                    arrows.get(file).into_iter().flat_map(|a| a.keys().map(String::as_str)),
                );
            }
        }
        false
    };
    let mut on_circles = Vec::new();
    for (from, all) in arrows {
        for (to, paths) in all.iter().filter(|(to, _)| reaches(to, from)) {
            let paths = paths.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            on_circles.push(format!("{from} -> {to} ({paths})"));
        }
    }
    on_circles
}

/// Contract below, members on it, registry on top: who names a file of its own room is above it.
/// `mod.rs` counts as a file that names what it re-exports, so that a member which imports from
/// its own façade is on a circle, too.
#[test]
fn imports_inside_a_room_point_one_way() {
    let found = circles(&arrows(&sources("src", "rs")));
    assert!(found.is_empty(), "arrows on circles inside rooms:\n{}", found.join("\n"));
}

#[test]
fn circles_inside_rooms_are_found() {
    let found = |files: &[(&str, &str)]| {
        let owned = |(file, text): &(&str, &str)| ((*file).to_owned(), (*text).to_owned());
        circles(&arrows(&files.iter().map(owned).collect::<Vec<_>>()))
    };
    let facade = ("room/mod.rs", "mod a;\nmod b;\nmod sub;\n\npub use a::A;\npub use b::{B, C};\n");
    let (b, low) = (("room/b.rs", "use crate::other::X;\n"), ("room/sub/low.rs", ""));
    let sub = ("room/sub/mod.rs", "mod low;\npub use low::L;\n");
    let fine = ("room/a.rs", "use super::{\n    b::{self, B as Other},\n    sub::low::L,\n};\n");
    assert_eq!(found(&[facade, fine, b, sub, low]), [""; 0]);
    let both = |x: &str, y: &str, xy: &str, yx: &str| {
        [format!("room/{x} -> room/{y} ({xy})"), format!("room/{y} -> room/{x} ({yx})")]
    };
    // Two members; a member in a folder; a path without `use`; a member and its façade; a macro.
    let up = ("room/b.rs", "use super::a::A;\n");
    let circle = both("a.rs", "b.rs", "super::b::B, super::b::self", "super::a::A");
    assert_eq!(found(&[facade, fine, up, sub, low]), circle);
    let up = ("room/sub/low.rs", "fn f() -> super::super::a::A { crate::room::a::new() }\n");
    let circle =
        both("a.rs", "sub/low.rs", "super::sub::low::L", "crate::room::a::new, super::super::a::A");
    assert_eq!(found(&[facade, fine, b, sub, up]), circle);
    let up = ("room/b.rs", "use super::{A};\n");
    assert!(found(&[facade, up, sub, low, ("room/a.rs", "")]).len() == 2);
    let up = ("room/b.rs", "fn f() { made!(1) }\n");
    let maker = ("room/a.rs", "use super::b::B;\nmacro_rules! made {\n}\n");
    assert_eq!(found(&[facade, maker, up, sub, low]), both("a.rs", "b.rs", "super::b::B", "made!"));
    // Comments, tests, visibilities and what macros write elsewhere are no imports.
    let fine = "// super::a::A\npub(in crate::room) fn f() {}\n$crate::room::a::A\n#[cfg(test)]\nmod tests {\n    use super::a::A;\n}\n";
    assert_eq!(found(&[facade, maker, ("room/b.rs", fine), sub, low]), [""; 0]);
}

/// A member that looks for something finds the file that has it.
#[test]
fn facades_hold_nothing_of_their_own() {
    for room in FACADES {
        let file = format!("{room}/mod.rs");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&file);
        let text = std::fs::read_to_string(path).expect("readable text");
        let lines = text.lines().map(|l| l.split("//").next().unwrap_or("").trim());
        let code = lines.filter(|l| !l.starts_with("#[")).collect::<Vec<_>>().join(" ");
        for part in code.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let bare = part.strip_prefix("pub(crate) ").or(part.strip_prefix("pub "));
            let word = bare.unwrap_or(part).split(' ').next().unwrap_or_default();
            assert!(["mod", "use"].contains(&word), "src/{file} holds code: {part}");
        }
    }
}

#[test]
fn only_the_gpu_room_the_checker_and_the_embedders_door_name_wgpu() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src", "rs") {
        if ["gpu/", "simt/", "trusted/", "graph/embed.rs"].iter().any(|room| file.starts_with(room))
        {
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
