//! A checkpoint's tensors as graph weights, under the checkpoint's own names.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::format::Format;
use crate::graph::{Weight, WeightSource};
use crate::tensor::{DType, Meta, Shape};
use crate::weights::{Checkpoint, FileDType, first_non_finite};

/// Access to a checkpoint for model files: checked shapes, chosen storage, name variants.
#[derive(Clone)]
pub struct Parameters {
    checkpoints: Arc<[Arc<Checkpoint>]>,
    prefixes: &'static [&'static str],
    format: Option<Format>,
    /// Whether layers have a bias; `None` where the checkpoint decides.
    bias: Option<bool>,
    /// The output matrix and the word table that it is tied to.
    tie: Option<Arc<[String; 2]>>,
}

/// A tensor of a checkpoint as a source of bytes; F64 is narrowed to f32 on the way.
struct Stored {
    checkpoint: Arc<Checkpoint>,
    name: String,
    dtype: FileDType,
    /// Index of the first NaN or infinity that was read; `usize::MAX` while there is none.
    non_finite: AtomicUsize,
}

impl Stored {
    /// Reads elements as the file has them and looks for values that are not finite.
    fn read_checked(&self, first: usize, out: &mut [u8]) -> Result<()> {
        let count = out.len() / self.dtype.size();
        self.checkpoint.read_range(&self.name, first..first + count, out)?;
        if let Some(at) = first_non_finite(self.dtype, out) {
            self.non_finite.fetch_min(first + at, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl WeightSource for Stored {
    fn origin(&self) -> Option<String> {
        Some(format!("{}:{}", self.checkpoint.path().display(), self.name))
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        if self.dtype != FileDType::F64 {
            return self.read_checked(offset / self.dtype.size(), out);
        }
        let out = out.as_chunks_mut::<4>().0;
        let mut wide = vec![0; out.len() * 8];
        self.read_checked(offset / 4, &mut wide)?;
        for (narrow, wide) in out.iter_mut().zip(wide.as_chunks::<8>().0) {
            *narrow = (f64::from_le_bytes(*wide) as f32).to_le_bytes();
        }
        Ok(())
    }

    fn warning(&self) -> Option<String> {
        let at = self.non_finite.load(Ordering::Relaxed);
        let name = &self.name;
        (at != usize::MAX)
            .then(|| format!("tensor `{name}` holds a NaN or infinity, the first at element {at}"))
    }
}

/// A stored `[rows, columns]` matrix read as `[columns, rows]`.
struct Transposed {
    stored: Stored,
    rows: usize,
    columns: usize,
    /// Bytes of an element as it is read.
    size: usize,
}

impl WeightSource for Transposed {
    fn origin(&self) -> Option<String> {
        self.stored.origin().map(|origin| format!("{origin} transposed"))
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        let Self { rows, columns, size, .. } = *self;
        let first = offset / size;
        // One matrix at a time is held whole: its columns lie all over the file.
        let mut whole = vec![0; rows * columns * size];
        self.stored.read(0, &mut whole)?;
        for (i, element) in out.chunks_exact_mut(size).enumerate() {
            let (column, row) = ((first + i) / rows, (first + i) % rows);
            let at = (row * columns + column) * size;
            element.copy_from_slice(&whole[at..at + size]);
        }
        Ok(())
    }

    fn warning(&self) -> Option<String> {
        self.stored.warning()
    }
}

/// Whether two stored tensors have the same elements.
fn same(a: (&Checkpoint, &str), b: (&Checkpoint, &str)) -> Result<bool> {
    /// Elements compared at a time.
    const PART: usize = 1 << 18;
    let (of_a, of_b) = (a.0.info(a.1)?, b.0.info(b.1)?);
    if of_a.shape != of_b.shape || of_a.dtype != of_b.dtype {
        return Ok(false);
    }
    let (count, size) = (of_a.shape.numel(), of_a.dtype.size());
    for first in (0..count).step_by(PART) {
        let part = first..count.min(first + PART);
        let mut bytes = [(); 2].map(|()| vec![0; part.len() * size]);
        a.0.read_range(a.1, part.clone(), &mut bytes[0])?;
        b.0.read_range(b.1, part, &mut bytes[1])?;
        if bytes[0] != bytes[1] {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Parameters {
    /// Parameters of one or more checkpoints, looked through in order (a head's own before its
    /// trunk's), whose names may carry one of `prefixes`; matrices are stored as `format`
    /// where it holds their rows, or as the file has them.
    pub fn new(
        checkpoints: &[Arc<Checkpoint>],
        prefixes: &'static [&'static str],
        format: Option<Format>,
    ) -> Self {
        Self { checkpoints: checkpoints.into(), prefixes, format, bias: None, tie: None }
    }

    /// The same checkpoints with other prefixes.
    #[must_use]
    pub fn with_prefixes(&self, prefixes: &'static [&'static str]) -> Self {
        Self { prefixes, ..self.clone() }
    }

    /// The same for layers that have a bias because the configuration says so, or have none: a
    /// missing one is then an error, and one too many is not used.
    #[must_use]
    pub fn biased(&self, bias: bool) -> Self {
        Self { bias: Some(bias), ..self.clone() }
    }

    /// The same for a model whose output matrix `own` is tied to the word table `shared`, if
    /// `tied`. Of the two a file may keep either.
    #[must_use]
    pub fn tie(&self, tied: bool, [own, shared]: [&str; 2]) -> Self {
        Self { tie: tied.then(|| Arc::new([own.to_owned(), shared.to_owned()])), ..self.clone() }
    }

    fn resolve(&self, name: &str) -> Option<(&Arc<Checkpoint>, String)> {
        let find = |name| {
            let mut all = self.checkpoints.iter();
            all.find_map(|c| c.resolve(name, self.prefixes).map(|found| (c, found)))
        };
        let tied = || {
            let [own, _] = self.tie.as_deref().filter(|[_, shared]| shared == name)?;
            find(own)
        };
        find(name).or_else(tied)
    }

    /// Whether a checkpoint has this tensor under any of its spellings.
    pub fn contains(&self, name: &str) -> bool {
        self.resolve(name).is_some()
    }

    /// The first of these names that a checkpoint has; the first of all when it has none, for
    /// the error that follows.
    pub fn either<'a>(&self, names: &[&'a str]) -> &'a str {
        let found = names.iter().find(|name| self.contains(name));
        found.or(names.first()).copied().unwrap_or_default()
    }

    /// Which tensor stands for `own`, which may be tied to `shared`: itself where the checkpoint
    /// has it and it differs, as transformers decides, or else `shared`, which is loaded once.
    pub fn tied<'a>(&self, own: &'a str, shared: &'a str) -> Result<&'a str> {
        let (Some((c, mine)), Some((d, other))) = (self.resolve(own), self.resolve(shared)) else {
            return Ok(if self.contains(own) { own } else { shared });
        };
        Ok(if same((c, &mine), (d, &other))? { shared } else { own })
    }

    /// The output matrix `own`, or the table that it is [tied](Self::tie) to.
    pub fn output(&self, own: &str, dims: &[usize]) -> Result<Weight> {
        match self.tie.as_deref() {
            Some([tied, shared]) if tied == own => self.matrix(self.tied(own, shared)?, dims),
            _ => self.matrix(own, dims),
        }
    }

    /// A matrix or table, stored in the chosen format.
    pub fn matrix(&self, name: &str, dims: &[usize]) -> Result<Weight> {
        let weight = self.get(name, dims)?;
        Ok(match self.format {
            Some(format) => weight.stored_as(format),
            None => weight,
        })
    }

    /// A matrix that the checkpoint stores transposed, `[n_in, n_out]` as GPT-2's Conv1D does,
    /// given as `[n_out, n_in]`.
    pub fn transposed(&self, name: &str, [n_in, n_out]: [usize; 2]) -> Result<Weight> {
        let (found, stored, meta) = self.find(name, &[n_in, n_out])?;
        let source = Transposed { stored, rows: n_in, columns: n_out, size: meta.dtype.size() };
        let meta = Meta { shape: Shape::new(&[n_out, n_in])?, dtype: meta.dtype };
        let weight = Weight::new(found, meta, Arc::new(source));
        Ok(match self.format {
            Some(format) => weight.stored_as(format),
            None => weight,
        })
    }

    /// A vector that the checkpoint stores with leading dimensions of 1, `[1, .., n]`.
    pub fn row_vector(&self, name: &str, n: usize) -> Result<Weight> {
        let (found, stored, meta) = self.find(name, &[1, n])?;
        let meta = Meta { shape: Shape::new(&[n])?, dtype: meta.dtype };
        Ok(Weight::new(found, meta, Arc::new(stored)).stored_as(Format::F32))
    }

    /// The first row of a table `[rows, n]`, as a vector.
    pub fn first_row(&self, name: &str, [rows, n]: [usize; 2]) -> Result<Weight> {
        let (found, stored, meta) = self.find(name, &[rows, n])?;
        let meta = Meta { shape: Shape::new(&[n])?, dtype: meta.dtype };
        Ok(Weight::new(found, meta, Arc::new(stored)).stored_as(Format::F32))
    }

    /// A vector (bias, norm weight) or another small tensor, always stored as f32.
    pub fn vector(&self, name: &str, dims: &[usize]) -> Result<Weight> {
        Ok(self.get(name, dims)?.stored_as(Format::F32))
    }

    /// `{layer}.bias` `[n]`, if the layer has one: where the checkpoint has it, or as
    /// [`biased`](Self::biased) says.
    pub fn bias(&self, layer: &str, n: usize) -> Result<Option<Weight>> {
        let name = format!("{layer}.bias");
        let wanted = self.bias.unwrap_or_else(|| self.contains(&name));
        wanted.then(|| self.vector(&name, &[n])).transpose()
    }

    fn get(&self, name: &str, dims: &[usize]) -> Result<Weight> {
        let (found, stored, meta) = self.find(name, dims)?;
        Ok(Weight::new(found, meta, Arc::new(stored)))
    }

    /// The tensor under its own name, checked against the shape that is wanted.
    fn find(&self, name: &str, dims: &[usize]) -> Result<(String, Stored, Meta)> {
        let (checkpoint, found) = self.resolve(name).ok_or_else(|| {
            let path = |c: &Arc<Checkpoint>| c.path().display().to_string();
            let paths: Vec<_> = self.checkpoints.iter().map(path).collect();
            Error::tensor(name, format!("is not in the checkpoint {}", paths.join(" or ")))
        })?;
        let info = checkpoint.info(&found)?;
        if info.shape.dims() != dims {
            let message = format!("has shape {}, the config asks for {dims:?}", info.shape);
            return Err(Error::tensor(found, message));
        }
        let dtype = match info.dtype {
            FileDType::F32 | FileDType::F64 => DType::F32,
            FileDType::F16 => DType::F16,
            FileDType::BF16 => DType::BF16,
            other => {
                let message = format!("has dtype {other}, a weight must be floating point");
                return Err(Error::tensor(found, message));
            }
        };
        let meta = Meta { shape: Shape::new(dims)?, dtype };
        let checkpoint = Arc::clone(checkpoint);
        let non_finite = AtomicUsize::new(usize::MAX);
        let source = Stored { checkpoint, name: found.clone(), dtype: info.dtype, non_finite };
        Ok((found, source, meta))
    }
}
