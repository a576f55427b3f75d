//! Texts of kernels as they are written: the embedded files, and where lines come from.

use std::fmt;

/// Text of one file in `shaders/`; made by [`shader!`](crate::shader).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShaderSource {
    /// Stem of the file: the kernel's name, its label and its timing key.
    pub name: &'static str,
    /// WGSL text with `#import` lines.
    pub text: &'static str,
}

/// Embeds `shaders/<name>.wgsl` as a [`ShaderSource`](crate::gpu::ShaderSource).
#[macro_export]
macro_rules! shader {
    ($name:literal) => {
        $crate::gpu::ShaderSource {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
        }
    };
}

/// What becomes of loops that are marked `// unroll`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loops {
    /// A block per round, in which the loop's variable is a constant.
    #[default]
    Unrolled,
    /// They stay loops: the same results, for tests and for reading.
    Plain,
}

/// Where a line of an assembled kernel was written; displays as `shaders/shared/fold.wgsl:7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Stem of the file.
    pub name: &'static str,
    /// Whether it lies in `shaders/shared/`.
    pub shared: bool,
    /// The line, counted from 1.
    pub line: usize,
}

impl Origin {
    /// The file, as `shaders/shared/fold.wgsl`.
    pub fn file(&self) -> String {
        let folder = if self.shared { "shared/" } else { "" };
        format!("shaders/{folder}{}.wgsl", self.name)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file(), self.line)
    }
}

/// A line on its way into an assembled kernel.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub text: String,
    pub origin: Option<Origin>,
}
