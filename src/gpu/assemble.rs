//! Pastes imports, sets constants, expands marked loops: a kernel's file becomes the text of one
//! variant, which still knows where each of its lines was written.
//!
//! In debug builds the variable `TILEWRIGHT_SHADERS` names a folder laid out as `shaders/`: a
//! kernel's file, or a shared one, that lies there is read in place of the embedded text whenever
//! a pipeline is made, so that an edited kernel runs without a build. What is not there stays as
//! embedded.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::shared::SHARED;
use super::source::{Line, Loops, Origin, ShaderSource};
use super::spec::Spec;
use super::unroll::unroll;
use crate::error::{Error, Result};

/// The text of one variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// WGSL.
    pub wgsl: String,
    origins: Vec<Option<Origin>>,
}

impl Assembled {
    fn new(lines: Vec<Line>) -> Self {
        let mut wgsl = String::with_capacity(lines.iter().map(|l| l.text.len() + 1).sum());
        for line in &lines {
            wgsl.push_str(&line.text);
            wgsl.push('\n');
        }
        Self { wgsl, origins: lines.into_iter().map(|l| l.origin).collect() }
    }

    /// Where a line of [`wgsl`](Self::wgsl), counted from 1, was written; `None` for what the
    /// loader added. Copies of an expanded loop's body have the body's origins.
    pub fn origin(&self, line: usize) -> Option<Origin> {
        self.origins.get(line.checked_sub(1)?).copied().flatten()
    }
}

/// The WGSL text of one variant, marked loops expanded.
pub fn assemble(source: ShaderSource, spec: &Spec) -> Result<String> {
    Ok(assemble_with(source, spec, Loops::Unrolled)?.wgsl)
}

/// The text of one variant and where its lines come from.
pub fn assemble_with(source: ShaderSource, spec: &Spec, loops: Loops) -> Result<Assembled> {
    assemble_from(source, spec, loops, folder().as_deref())
}

/// The text of a kernel in a file of its own; what it imports lies in `shared/` beside it, or is
/// embedded.
pub(super) fn assemble_file(path: &Path) -> Result<Assembled> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = kept(&stem.unwrap_or_default());
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    // The loader reads by the stem, which a file of another ending has not.
    let spec = Spec::new();
    let mut paste = Paste {
        spec: &spec,
        folder: Some(folder),
        stack: Vec::new(),
        pasted: HashSet::new(),
        out: Vec::new(),
    };
    paste.lines(ShaderSource { name, text: "" }, false, &text)?;
    Ok(Assembled::new(directives_first(expanded(name, paste.out)?)))
}

fn expanded(kernel: &str, lines: Vec<Line>) -> Result<Vec<Line>> {
    unroll(lines).map_err(|(origin, why)| {
        let place = origin.map_or_else(String::new, |o| format!("{o}: "));
        Error::kernel(kernel, place + &why)
    })
}

/// The folder that takes the place of the embedded texts.
fn folder() -> Option<PathBuf> {
    if !cfg!(debug_assertions) {
        return None;
    }
    std::env::var_os("TILEWRIGHT_SHADERS").filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn assemble_from(
    source: ShaderSource,
    spec: &Spec,
    loops: Loops,
    folder: Option<&Path>,
) -> Result<Assembled> {
    let mut paste =
        Paste { spec, folder, stack: Vec::new(), pasted: HashSet::new(), out: Vec::new() };
    paste.file(source, false)?;
    let mut lines = paste.out;
    for (name, value) in &spec.consts {
        let value = value.as_ref();
        let set = value.map_err(String::clone).and_then(|value| set_const(&mut lines, name, value));
        set.map_err(|why| Error::kernel(source.name, format!("setting `{name}`: {why}")))?;
    }
    if loops == Loops::Unrolled {
        lines = expanded(source.name, lines)?;
    }
    Ok(Assembled::new(directives_first(lines)))
}

struct Paste<'a> {
    spec: &'a Spec,
    folder: Option<&'a Path>,
    stack: Vec<&'static str>,
    pasted: HashSet<&'static str>,
    out: Vec<Line>,
}

impl Paste<'_> {
    fn file(&mut self, source: ShaderSource, shared: bool) -> Result<()> {
        let text = self.text(source, shared)?;
        self.lines(source, shared, &text)
    }

    fn lines(&mut self, source: ShaderSource, shared: bool, text: &str) -> Result<()> {
        self.stack.push(source.name);
        let fail = |message: String| Err(Error::kernel(source.name, message));
        let mut seen = HashSet::new();
        for (i, line) in text.lines().enumerate() {
            let Some(wanted) = line.strip_prefix("#import ").map(str::trim) else {
                let origin = Some(Origin { name: source.name, shared, line: i + 1 });
                self.out.push(Line { text: line.to_owned(), origin });
                continue;
            };
            if !seen.insert(wanted.to_owned()) {
                return fail(format!("`#import {wanted}` appears twice"));
            }
            let name = self.spec.imported(wanted);
            let Some(import) = self.shared(name) else {
                return fail(format!("`#import {name}`: no such file in shaders/shared"));
            };
            if self.stack.contains(&import.name) {
                let chain = self.stack.join(" -> ");
                return fail(format!("cyclic import: {chain} -> {name}"));
            }
            // A file imported along two paths is pasted where it is met first.
            if self.pasted.insert(import.name) {
                self.file(import, true)?;
            }
        }
        self.stack.pop();
        Ok(())
    }

    /// The shared file of a name: an embedded one, or one that only the folder has.
    fn shared(&self, name: &str) -> Option<ShaderSource> {
        let embedded = SHARED.iter().find(|s| s.name == name).copied();
        embedded.or_else(|| {
            let exists = self.folder?.join("shared").join(format!("{name}.wgsl")).is_file();
            exists.then(|| ShaderSource { name: kept(name), text: "" })
        })
    }

    fn text(&self, source: ShaderSource, shared: bool) -> Result<Cow<'static, str>> {
        let Some(folder) = self.folder else { return Ok(Cow::Borrowed(source.text)) };
        let mut path = folder.to_owned();
        if shared {
            path.push("shared");
        }
        path.push(format!("{}.wgsl", source.name));
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Cow::Borrowed(source.text)),
            Err(e) => Err(Error::io(path, e)),
        }
    }
}

/// A name that lives as long as the program, each kept once: for files unknown to the build.
fn kept(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = names.get(name) {
        return found;
    }
    let name: &'static str = name.to_owned().leak();
    names.insert(name);
    name
}

/// Replaces the initialiser of the one line that declares `name`.
fn set_const(lines: &mut [Line], name: &str, value: &str) -> Result<(), String> {
    let declares = |line: &&mut Line| {
        let typed = line.text.strip_prefix("const ").and_then(|l| l.strip_prefix(name));
        let typed = typed.is_some_and(|rest| rest.starts_with(':'));
        let alias = line.text.strip_prefix("alias ").and_then(|l| l.strip_prefix(name));
        typed || alias.is_some_and(|rest| rest.starts_with(" ="))
    };
    let mut found: Vec<_> = lines.iter_mut().filter(declares).collect();
    let [line] = found.as_mut_slice() else {
        let n = found.len();
        return Err(format!("expected one `const` or `alias` line, found {n}"));
    };
    let Some((left, right)) = line.text.split_once('=') else {
        return Err("its line has no initialiser".to_owned());
    };
    let tail = right.split_once(';').map_or("", |(_, tail)| tail);
    line.text = format!("{left}= {value};{tail}");
    Ok(())
}

/// Puts directives, which WGSL wants before everything else, at the top, each once: those that
/// files bring along, and the `enable` lines of what the text uses.
fn directives_first(lines: Vec<Line>) -> Vec<Line> {
    let directive =
        |l: &Line| ["enable ", "requires ", "diagnostic("].iter().any(|d| l.text.starts_with(d));
    let (mut top, rest): (Vec<_>, Vec<_>) = lines.into_iter().partition(directive);
    for (word, extension) in [
        ("f16", "f16"),
        ("coop_mat8x8", "wgpu_cooperative_matrix"),
        ("coop_mat16x16", "wgpu_cooperative_matrix"),
    ] {
        if rest.iter().any(|line| has_word(&line.text, word)) {
            top.push(Line { text: format!("enable {extension};"), origin: None });
        }
    }
    let mut seen = HashSet::new();
    top.retain(|line| seen.insert(line.text.trim_end().to_owned()));
    top.extend(rest);
    top
}

/// Whether the code of a line, comments aside, has this word.
fn has_word(line: &str, wanted: &str) -> bool {
    let code = line.split("//").next().unwrap_or("");
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == wanted)
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    fn source(text: &'static str) -> ShaderSource {
        ShaderSource { name: "test", text }
    }

    fn message<T: fmt::Debug>(result: Result<T>) -> String {
        result.expect_err("an error was expected").to_string()
    }

    #[test]
    fn unknown_import_is_named() {
        let error = message(assemble(source("#import nowhere\n"), &Spec::new()));
        assert!(error.contains("`#import nowhere`: no such file"), "{error}");
    }

    #[test]
    fn duplicate_import_is_an_error() {
        let error = message(assemble(source("#import fold\n#import fold\n"), &Spec::new()));
        assert!(error.contains("appears twice"), "{error}");
    }

    #[test]
    fn consts_and_aliases_are_replaced_by_exact_name() {
        let text = "const TILE: u32 = 8u; // tile\nconst TILE_M: u32 = 4u;\nalias Elem = f32;\n";
        let spec = Spec::new().set("TILE", 16u32).set("Elem", "vec4<f32>");
        let out = assemble(source(text), &spec).expect("both lines exist");
        assert_eq!(
            out,
            "const TILE: u32 = 16u; // tile\nconst TILE_M: u32 = 4u;\nalias Elem = vec4<f32>;\n"
        );
    }

    #[test]
    fn a_const_that_is_missing_or_double_is_an_error() {
        let spec = Spec::new().set("N", 1u32);
        for (text, found) in
            [("", "found 0"), ("const N: u32 = 1u;\nconst N: u32 = 2u;\n", "found 2")]
        {
            let error = message(assemble(source(text), &spec));
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn a_const_without_a_literal_is_an_error() {
        let spec = Spec::new().set("EPS", f32::NAN);
        let error = message(assemble(source("const EPS: f32 = 1e-5;\n"), &spec));
        assert!(error.contains("setting `EPS`: NaN has no WGSL literal"), "{error}");
    }

    #[test]
    fn lines_know_where_they_were_written() {
        let text = "enable f16;\n#import fold\nalias Half = f16;\n";
        let out = assemble_with(source(text), &Spec::new(), Loops::Plain).expect("it assembles");
        let place = |line| out.origin(line).map(|o: Origin| o.to_string());
        assert_eq!(place(1).as_deref(), Some("shaders/test.wgsl:1"));
        assert_eq!(place(2).as_deref(), Some("shaders/shared/fold.wgsl:1"));
        let last = out.wgsl.lines().count();
        assert_eq!(place(last).as_deref(), Some("shaders/test.wgsl:3"));
        assert_eq!([place(0), place(last + 1)], [None, None]);
    }

    #[test]
    fn what_the_text_uses_is_enabled_first_and_once() {
        let text = "const A: u32 = 1u; // f16 in a comment\n";
        assert_eq!(assemble(source(text), &Spec::new()).expect("assembles"), text);
        let text = "const A: u32 = 1u;\ndiagnostic(off, derivative_uniformity);\nenable f16;\n\
                    alias Tile = coop_mat16x16<f32, C>;\nalias Half = f16;\n";
        let out = assemble(source(text), &Spec::new()).expect("assembles");
        let top: Vec<_> = out.lines().take(4).collect();
        let expected = [
            "diagnostic(off, derivative_uniformity);",
            "enable f16;",
            "enable wgpu_cooperative_matrix;",
            "const A: u32 = 1u;",
        ];
        assert_eq!(top, expected);
        assert_eq!(out.matches("enable").count(), 2);
    }

    #[test]
    fn a_folder_takes_the_place_of_embedded_texts() {
        let folder =
            std::env::temp_dir().join(format!("tilewright-shaders-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("shared")).expect("a temporary folder");
        std::fs::write(folder.join("shared/fold.wgsl"), "const EDITED: u32 = 1u;\n")
            .expect("a temporary file");
        let text = source("#import fold\nconst OWN: u32 = 1u;\n");
        let out = assemble_from(text, &Spec::new(), Loops::Unrolled, Some(&folder));
        // The kernel itself is not in the folder.
        let expected = "const EDITED: u32 = 1u;\nconst OWN: u32 = 1u;\n";
        assert_eq!(out.expect("it assembles").wgsl, expected);
        std::fs::write(folder.join("shared/fresh.wgsl"), "const KERNEL: u32 = 1u;\n")
            .and_then(|()| std::fs::write(folder.join("test.wgsl"), "#import fresh\n"))
            .expect("temporary files");
        let out = assemble_from(text, &Spec::new(), Loops::Unrolled, Some(&folder));
        assert_eq!(out.expect("it assembles").wgsl, "const KERNEL: u32 = 1u;\n");
        std::fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
