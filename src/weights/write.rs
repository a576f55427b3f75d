//! Writing tensors to a safetensors file.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, View};

use crate::error::{Error, Result};
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

/// Writes tensors to a safetensors file, which appears whole or not at all: they go to a file
/// beside it that is renamed when complete. A target that is not a regular file (`/dev/full`, a
/// pipe) is written to directly.
///
/// Errors: a name given twice, and what the operating system says, a full disk included.
pub fn write(path: impl AsRef<Path>, tensors: &[(&str, Tensor)]) -> Result<()> {
    let path = path.as_ref();
    let mut seen = HashSet::new();
    for (name, _) in tensors {
        if !seen.insert(*name) {
            return Err(Error::tensor(*name, "is given twice for one file"));
        }
    }
    let sources = tensors
        .iter()
        .map(|(name, tensor)| (*name, Source { tensor, dims: tensor.shape().dims().to_vec() }));
    let bytes =
        safetensors::serialize(sources, None).map_err(|e| Error::file(path, e.to_string()))?;
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(Error::file(path, "is a folder; the name of a file to write is expected"))
        }
        Ok(found) if !found.is_file() => {
            std::fs::write(path, bytes).map_err(|e| Error::io(path, e))
        }
        // Through a link the file it names is replaced, not the link.
        Ok(_) => replace(&path.canonicalize().map_err(|e| Error::io(path, e))?, &bytes),
        Err(_) => replace(path, &bytes),
    }
}

// The crate's own `serialize_to_file` leaves a file that only its owner can read.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = beside(path)?;
    let done = std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|e| Error::io(path, e));
    if done.is_err() {
        // The first error is the one to report; the file may not even exist.
        let _ = std::fs::remove_file(&temporary);
    }
    done
}

fn beside(path: &Path) -> Result<PathBuf> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| Error::file(path, "is not the name of a file"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}-{serial}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}
