//! Every text in every form that wgpu may ask for, and a compiler run over files of them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tilewright::gpu::{Shader, load};

use crate::variants::variants;

/// Whether naga adds run-time checks: trusted kernels ship without, and are tested with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Checked,
    Unchecked,
}

/// Compilers run side by side, on a share of the texts each.
const PROCESSES: usize = 2;

/// Where a compiler is, as `tools/compilers.sh` says.
pub fn tool(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        panic!("{variable} is not set: `vars=$(tools/compilers.sh) && eval \"$vars\"` sets it up")
    })
}

/// Whether all texts are compiled, and optimised: an hour.
pub fn every() -> bool {
    std::env::var_os("TILEWRIGHT_EVERY_TEXT").is_some()
}

/// Writes what `writes` makes of the variants, in their forms and each text once, to files of this
/// ending. Returns the files and what each is of. Variants of a class differ in numbers alone, so
/// the first of each speaks for all, but where `TILEWRIGHT_EVERY_TEXT` is set (`tools/test.sh --all`).
pub fn write(
    ending: &str,
    writes: impl Fn(&Shader, Form) -> Option<Vec<u8>>,
) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("backends_{ending}"));
    // A folder of an earlier run, or none.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a writable folder");
    let (mut files, mut seen, mut classes) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for variant in variants() {
        if !classes.insert(format!("{} {}", variant.source.name, variant.spec.class())) && !every()
        {
            continue;
        }
        let shader = load(variant.source, &variant.spec).expect("a valid variant");
        shader.check_params(variant.twin).expect("parameters as Rust has them");
        let unchecked = variant.trusted.then_some(Form::Unchecked);
        for form in unchecked.into_iter().chain([Form::Checked]) {
            let Some(text) = writes(&shader, form) else { continue };
            if !seen.insert(text.clone()) {
                continue;
            }
            let path = folder.join(format!("{}_{}.{ending}", variant.source.name, files.len()));
            std::fs::write(&path, text).expect("a writable folder");
            files.push((path, format!("{form:?} {}", variant.name())));
        }
    }
    files
}

/// A compiler that takes one file: a shell asks it about each and names the file in the complaint.
/// Arguments that are added stand before the file.
pub fn checked_by(compiler: &Path) -> Command {
    let script = r#"
while IFS= read -r file || [ -n "$file" ]; do
  found=$("$0" "$@" "$file" 2>&1) || echo "$file: $(echo "$found" | tr '\n' ' ')"
done"#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(compiler);
    command
}

/// Runs `command` over shares of the files, given as lines of its input. Panics with all that it
/// complains about.
pub fn compile(files: &[(PathBuf, String)], command: impl Fn() -> Command) {
    assert!(files.len() > 300, "only {} texts", files.len());
    let wrong = complaints(files, command);
    assert!(wrong.is_empty(), "{} of {} texts:\n{}", wrong.len(), files.len(), wrong.join("\n"));
    println!("{} texts compile", files.len());
}

/// Runs `command` over one text; it must complain in these words, or not at all where they are empty.
#[track_caller]
pub fn complains(ending: &str, text: &[u8], command: impl Fn() -> Command, words: &str) {
    let hash = text.iter().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(*b)));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fault_{hash:x}.{ending}"));
    std::fs::write(&path, text).expect("a writable folder");
    let found = complaints(&[(path, "a fault".to_owned())], command).join("\n");
    assert!(found.contains(words), "{found:?} does not say {words:?}");
    assert_eq!(found.is_empty(), words.is_empty(), "{found}");
}

/// What `command` prints: `PATH: complaint` for each file that is wrong.
fn complaints(files: &[(PathBuf, String)], command: impl Fn() -> Command) -> Vec<String> {
    let share = files.len().div_ceil(PROCESSES);
    let running: Vec<_> = files
        .chunks(share)
        .map(|files| {
            let mut child = command()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("tools/compilers.sh has set it up");
            let lines: Vec<_> = files.iter().map(|(path, _)| path.display().to_string()).collect();
            let mut input = child.stdin.take().expect("its input is ours");
            // From a thread: a compiler that writes much before it has read all would wait for us.
            let feed = std::thread::spawn(move || input.write_all(lines.join("\n").as_bytes()));
            (child, feed)
        })
        .collect();
    let mut complaints = Vec::new();
    for (child, feed) in running {
        let done = child.wait_with_output().expect("it ends");
        feed.join().expect("no panic").expect("it reads its input");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() || !text.is_empty(), "the compiler failed: {}", done.status);
        complaints.extend(text.lines().map(str::to_owned));
    }
    for line in &mut complaints {
        if let Some((_, name)) =
            files.iter().find(|(path, _)| line.starts_with(&*path.to_string_lossy()))
        {
            *line = format!("{name}\n    {line}");
        }
    }
    complaints
}
