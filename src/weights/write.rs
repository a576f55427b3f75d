//! Writing tensors to a safetensors file.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use safetensors::{Dtype, View};

use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::tensor::{DType, Tensor};

struct Source<'a> {
    tensor: &'a Tensor,
    dims: Vec<usize>,
}

impl View for Source<'_> {
    fn dtype(&self) -> Dtype {
        match self.tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::U32 => Dtype::U32,
            DType::I8 => Dtype::I8,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.dims
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.tensor.as_bytes().into()
    }

    fn data_len(&self) -> usize {
        self.tensor.as_bytes().len()
    }
}

/// Writes tensors to a safetensors file, which appears whole or not at all.
///
/// Errors: a name given twice, a tensor in several planes, and what the operating system says, a full disk included.
pub fn write(path: impl AsRef<Path>, tensors: &[(&str, Tensor)]) -> Result<()> {
    let path = path.as_ref();
    let mut seen = HashSet::new();
    for (name, tensor) in tensors {
        if tensor.meta().planes() > 1 {
            let message = format!("{} has no safetensors form", tensor.meta());
            return Err(Error::tensor(*name, message));
        }
        if !seen.insert(*name) {
            return Err(Error::tensor(*name, "is given twice for one file"));
        }
    }
    let sources = tensors
        .iter()
        .map(|(name, tensor)| (*name, Source { tensor, dims: tensor.shape().dims().to_vec() }));
    let bytes =
        safetensors::serialize(sources, None).map_err(|e| Error::file(path, e.to_string()))?;
    // The crate's own `serialize_to_file` leaves a file that only its owner can read.
    write_whole(path, &bytes)
}
