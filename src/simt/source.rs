//! A kernel's module, and which line of which file each of its lines is.

use wgpu::naga::valid::ModuleInfo;
use wgpu::naga::{Module, Span};

use super::findings::Place;
use std::path::Path;

use crate::error::Result;
use crate::gpu::{Shader, load_file};

/// Places of an assembled text's lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// Byte offsets at which lines begin.
    starts: Vec<usize>,
    places: Vec<Place>,
}

impl Lines {
    /// Of a text whose line `n`, from 1, was written at `place(n)`.
    fn new(text: &str, place: impl Fn(usize) -> Option<Place>, file: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        let starts: Vec<_> = starts.collect();
        let unknown = |line| Place { file: file.to_owned(), line };
        let places = (1..=starts.len()).map(|n| place(n).unwrap_or_else(|| unknown(n))).collect();
        Self { starts, places }
    }

    /// The line, from 0, that a span begins in; `None` for what has no place in the text.
    pub fn line(&self, span: Span) -> Option<usize> {
        let at = span.to_range()?.start;
        Some(self.starts.partition_point(|&start| start <= at) - 1)
    }

    pub fn place(&self, line: usize) -> Place {
        self.places[line].clone()
    }
}

/// What is checked: the module that the loader made.
#[derive(Debug)]
pub struct Source {
    pub(super) name: String,
    pub(super) module: Module,
    pub(super) info: ModuleInfo,
    pub(super) lines: Lines,
}

impl From<Shader> for Source {
    fn from(shader: Shader) -> Self {
        let place = |line| {
            let origin = shader.text.origin(line)?;
            Some(Place { file: origin.file(), line: origin.line })
        };
        let lines = Lines::new(&shader.text.wgsl, place, shader.name);
        let Shader { name, module, info, .. } = shader;
        Self { name: name.to_owned(), module, info, lines }
    }
}

impl Source {
    /// A kernel in a file of its own, of anybody's making; see [`load_file`].
    pub fn read(path: &Path) -> Result<Self> {
        let (text, module, info) = load_file(path)?;
        let name = path.to_string_lossy().into_owned();
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
        let place = |line| {
            let origin = text.origin(line)?;
            let own = !origin.shared && Some(origin.name) == stem.as_deref();
            let file = if own { name.clone() } else { origin.file() };
            Some(Place { file, line: origin.line })
        };
        let lines = Lines::new(&text.wgsl, place, &name);
        Ok(Self { name, module, info, lines })
    }
}
