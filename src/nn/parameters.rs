//! A checkpoint's tensors as graph weights, under the checkpoint's own names.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::graph::{Weight, WeightSource};
use crate::tensor::{DType, Meta, Shape};
use crate::weights::{Checkpoint, FileDType, first_non_finite};

/// Access to a checkpoint for model files: checked shapes, chosen storage, name variants.
#[derive(Clone)]
pub struct Parameters {
    checkpoint: Arc<Checkpoint>,
    prefixes: &'static [&'static str],
    dtype: Option<DType>,
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

impl Parameters {
    /// Parameters of a checkpoint whose names may carry one of `prefixes`; matrices are stored
    /// as `dtype`, or as the file has them.
    pub fn new(
        checkpoint: Arc<Checkpoint>,
        prefixes: &'static [&'static str],
        dtype: Option<DType>,
    ) -> Self {
        Self { checkpoint, prefixes, dtype }
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether the checkpoint has this tensor under any of its spellings.
    pub fn contains(&self, name: &str) -> bool {
        self.checkpoint.resolve(name, self.prefixes).is_some()
    }

    /// A matrix or table, stored in the chosen dtype.
    pub fn matrix(&self, name: &str, dims: &[usize]) -> Result<Weight> {
        let weight = self.get(name, dims)?;
        Ok(match self.dtype {
            Some(dtype) => weight.stored_as(dtype),
            None => weight,
        })
    }

    /// A vector (bias, norm weight) or another small tensor, always stored as f32.
    pub fn vector(&self, name: &str, dims: &[usize]) -> Result<Weight> {
        Ok(self.get(name, dims)?.stored_as(DType::F32))
    }

    fn get(&self, name: &str, dims: &[usize]) -> Result<Weight> {
        let found = self.checkpoint.resolve(name, self.prefixes).ok_or_else(|| {
            let path = self.checkpoint.path().display();
            Error::tensor(name, format!("is not in the checkpoint {path}"))
        })?;
        let info = self.checkpoint.info(&found)?;
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
        let checkpoint = Arc::clone(&self.checkpoint);
        let non_finite = AtomicUsize::new(usize::MAX);
        let source = Stored { checkpoint, name: found.clone(), dtype: info.dtype, non_finite };
        Ok(Weight::new(found, meta, Arc::new(source)))
    }
}
