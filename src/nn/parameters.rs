//! A checkpoint's tensors as graph weights, under the checkpoint's own names.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{Weight, WeightSource};
use crate::tensor::{DType, Meta, Shape};
use crate::weights::{Checkpoint, FileDType};

/// Access to a checkpoint for model files: checked shapes, chosen storage, name variants.
#[derive(Clone)]
pub struct Parameters {
    checkpoint: Arc<Checkpoint>,
    prefixes: &'static [&'static str],
    dtype: Option<DType>,
}

/// A tensor of a checkpoint as a source of bytes.
struct Stored {
    checkpoint: Arc<Checkpoint>,
    name: String,
    element: usize,
}

impl WeightSource for Stored {
    fn origin(&self) -> Option<String> {
        Some(format!("{}:{}", self.checkpoint.path().display(), self.name))
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        let first = offset / self.element;
        let count = out.len() / self.element;
        self.checkpoint.read_range(&self.name, first..first + count, out)
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
            FileDType::F32 => DType::F32,
            FileDType::F16 => DType::F16,
            FileDType::BF16 => DType::BF16,
            FileDType::F64 => {
                // Rare enough to be converted whole.
                return Ok(Weight::constant(found.clone(), self.checkpoint.read(&found)?));
            }
            other => {
                let message = format!("has dtype {other}, a weight must be floating point");
                return Err(Error::tensor(found, message));
            }
        };
        let meta = Meta { shape: Shape::new(dims)?, dtype };
        let checkpoint = Arc::clone(&self.checkpoint);
        let source = Stored { checkpoint, name: found.clone(), element: dtype.size() };
        Ok(Weight::new(found, meta, Arc::new(source)))
    }
}
