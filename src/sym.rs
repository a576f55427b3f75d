//! Symbolic sizes: dimensions that are only known when a step runs.

use std::fmt;

use crate::error::{Error, Result};
use crate::format::Format;
use crate::tensor::{DType, MAX_RANK, Meta, Shape};

/// A size that is only known when a step runs (batch, tokens, cache length), by its index in
/// the graph's list of symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sym(pub u8);

/// One dimension or size attribute: fixed when the graph is built, or a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Fixed.
    Const(usize),
    /// Given anew at every step, within the capacity planned for.
    Sym(Sym),
}

impl Dim {
    /// The value under these sizes.
    pub fn eval(self, sizes: &Sizes) -> usize {
        match self {
            Self::Const(n) => n,
            Self::Sym(s) => sizes.get(s),
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Const(n)
    }
}

impl From<Sym> for Dim {
    fn from(s: Sym) -> Self {
        Self::Sym(s)
    }
}

/// The largest number of symbols a graph can have.
pub const MAX_SYMS: usize = 8;

/// The values of a graph's symbols for one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sizes([usize; MAX_SYMS]);

impl Sizes {
    /// The value of a symbol; 0 if it was never set.
    pub fn get(&self, sym: Sym) -> usize {
        self.0.get(usize::from(sym.0)).copied().unwrap_or(0)
    }

    /// Sets a symbol's value. Symbols beyond [`MAX_SYMS`] cannot be made by a graph.
    pub fn set(&mut self, sym: Sym, value: usize) {
        if let Some(slot) = self.0.get_mut(usize::from(sym.0)) {
            *slot = value;
        }
    }

    /// The same sizes with one symbol set.
    #[must_use]
    pub fn with(mut self, sym: Sym, value: usize) -> Self {
        self.set(sym, value);
        self
    }
}

/// Shape and element type with dimensions that may be symbols: what shape inference works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SymMeta {
    /// Dimensions, outermost first.
    pub dims: Vec<Dim>,
    /// Element type.
    pub dtype: DType,
}

impl SymMeta {
    /// A float32 value of these dimensions.
    pub fn f32(dims: impl IntoIterator<Item = impl Into<Dim>>) -> Self {
        Self { dims: dims.into_iter().map(Into::into).collect(), dtype: DType::F32 }
    }

    /// A u32 value of these dimensions.
    pub fn u32(dims: impl IntoIterator<Item = impl Into<Dim>>) -> Self {
        Self { dtype: DType::U32, ..Self::f32(dims) }
    }

    /// The innermost dimension, which ops need fixed.
    pub fn last(&self) -> Option<usize> {
        match self.dims.last() {
            Some(Dim::Const(n)) => Some(*n),
            _ => None,
        }
    }

    /// The dimensions but the innermost.
    pub fn lead(&self) -> &[Dim] {
        self.dims.split_last().map_or(&[], |(_, lead)| lead)
    }

    /// The same value with another innermost dimension.
    #[must_use]
    pub fn with_last(mut self, last: impl Into<Dim>) -> Self {
        if let Some(slot) = self.dims.last_mut() {
            *slot = last.into();
        }
        self
    }

    /// Shape and dtype under these sizes. Errors when the element count overflows.
    pub fn eval(&self, sizes: &Sizes) -> Result<Meta> {
        let mut dims = [1; MAX_RANK];
        if self.dims.len() > MAX_RANK {
            return Err(Error::Argument(format!("{self}: at most {MAX_RANK} dimensions")));
        }
        for (out, dim) in dims.iter_mut().zip(&self.dims) {
            *out = dim.eval(sizes);
        }
        Ok(Meta { shape: Shape::new(&dims[..self.dims.len()])?, dtype: self.dtype })
    }
}

impl From<Meta> for SymMeta {
    fn from(meta: Meta) -> Self {
        let dims = meta.shape.dims().iter().map(|&n| Dim::Const(n)).collect();
        Self { dims, dtype: meta.dtype }
    }
}

impl fmt::Display for SymMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Format::of(self.dtype) {
            Some(format) => write!(f, "{format}[")?,
            None => write!(f, "{}[", self.dtype)?,
        }
        for (i, dim) in self.dims.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match dim {
                Dim::Const(n) => write!(f, "{comma}{n}")?,
                Dim::Sym(s) => write!(f, "{comma}s{}", s.0)?,
            }
        }
        f.write_str("]")
    }
}
