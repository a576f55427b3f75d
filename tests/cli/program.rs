//! The built program as a user runs it: arguments in; exit code, stdout and stderr out.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A golden model folder.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// A path as an argument.
pub fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

/// `--model` for a small encoder.
pub fn bert() -> String {
    text(golden("bert_base"))
}

/// `--device` for the adapter the tests run on.
pub fn device() -> String {
    crate::common::shared().caps().name.clone()
}

/// A copy of a golden model folder, to be spoiled.
pub fn copy_golden(name: &str, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(golden(name)).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
}

/// The program, without arguments. `TILEWRIGHT_TEST_RUNNER` names what starts it, as cargo's own
/// `runner` starts the tests: a driver with a libc of its own asks for that libc's loader.
pub fn built() -> Command {
    let program = env!("CARGO_BIN_EXE_tilewright");
    match std::env::var_os("TILEWRIGHT_TEST_RUNNER").filter(|runner| !runner.is_empty()) {
        None => Command::new(program),
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(program);
            command
        }
    }
}

/// The program with a cache folder of the tests' own and no device chosen by the environment.
pub fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = built();
    command.args(args).stdin(Stdio::null());
    command.env("TILEWRIGHT_CACHE", env!("CARGO_TARGET_TMPDIR")).env_remove("TILEWRIGHT_DEVICE");
    command
}

/// What became of one run.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let err = String::from_utf8_lossy(&output.stderr);
        // A system library prints this line on machines without a desktop session.
        let ours = err.lines().filter(|l| !l.contains("XDG_RUNTIME_DIR"));
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: ours.map(|l| format!("{l}\n")).collect(),
        }
    }
}

/// Runs a prepared command.
pub fn finish(mut command: Command) -> Done {
    command.output().unwrap().into()
}

/// Runs the program on the CPU route.
pub fn cpu<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Done {
    let mut command = command(args);
    command.env("TILEWRIGHT_DEVICE", "cpu");
    finish(command)
}

impl Done {
    /// Asserts success and gives stdout.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(!self.err.contains("error:"), "{self:?}");
        self.out
    }

    /// Asserts success and parses the one JSON object on stdout.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Asserts success and parses one JSON object per line.
    #[track_caller]
    pub fn jsonl(self) -> Vec<Value> {
        self.ok().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// Asserts failure with one line that has every one of `wants`, and nothing on stdout.
    #[track_caller]
    pub fn fails(self, wants: &[&str]) {
        assert_eq!(self.code, Some(1), "{wants:?} {self:?}");
        assert_eq!(self.out, "", "{self:?}");
        let lines: Vec<_> = self.err.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{wants:?} {self:?}");
        assert!(lines[0].len() < 800, "{self:?}");
        for want in wants {
            assert!(lines[0].contains(want), "`{want}` was expected: {self:?}");
        }
        assert!(!self.err.contains("panicked"), "{self:?}");
    }

    /// Asserts that the command line itself was refused, with `want` in the complaint.
    #[track_caller]
    pub fn misused(self, want: &str) {
        assert_eq!(self.code, Some(2), "{want} {self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert!(self.err.starts_with("error: ") && self.err.contains(want), "{want} {self:?}");
    }
}

/// Keys of a JSON object, in order.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
