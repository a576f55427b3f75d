//! What is kept from step to step: key and value caches, on a device or in host memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu};
use crate::tensor::{Meta, Tensor};

/// States by name. Sessions made with the same `States` share those of equal names, as an
/// encoder that fills caches and the decoder that reads them do.
#[derive(Default)]
pub struct States {
    /// Those of sessions on a device.
    buffers: Mutex<HashMap<String, Arc<Buffer>>>,
    /// Those of sessions on the CPU.
    tensors: Mutex<HashMap<String, Tensor>>,
}

impl States {
    /// No states yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The state's buffer of this size, made at first use. Errors when it exists with another
    /// size: sessions that share states must have equal capacities.
    pub(super) fn buffer(&self, gpu: &Gpu, name: &str, meta: Meta) -> Result<Arc<Buffer>> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = buffers.get(name) {
            let wanted = meta.bytes().next_multiple_of(4).max(16) as u64;
            if found.size() != wanted {
                let message = format!("has {} bytes, {meta} needs {wanted}", found.size());
                return Err(Error::tensor(name, message));
            }
            return Ok(Arc::clone(found));
        }
        let buffer = Arc::new(gpu.buffer(name, meta.bytes())?);
        buffers.insert(name.to_owned(), Arc::clone(&buffer));
        Ok(buffer)
    }

    /// Takes a state out of host memory to be changed: zeros when it is new or was kept for
    /// other sizes.
    pub(super) fn take(&self, name: &str, meta: Meta) -> Result<Tensor> {
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        match tensors.remove(name).filter(|t| t.meta() == meta) {
            Some(tensor) => Ok(tensor),
            None => Tensor::zeros(meta),
        }
    }

    /// Puts a state back into host memory.
    pub(super) fn put(&self, name: &str, tensor: Tensor) {
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        tensors.insert(name.to_owned(), tensor);
    }
}

/// Rows of a state along its first dimension; errors when one of `rows` is none of them.
pub(super) fn check_rows(name: &str, meta: Meta, rows: &[usize]) -> Result<usize> {
    let batch = meta.shape.dims().first().copied().unwrap_or(1).max(1);
    match rows.iter().find(|&&row| row >= batch) {
        Some(wrong) => Err(Error::tensor(name, format!("has {batch} rows, row {wrong} is wanted"))),
        None => Ok(batch),
    }
}

/// The rows of a state in host memory, `rows[b]` put into row b.
pub(super) fn permuted(name: &str, tensor: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let row = tensor.meta().bytes() / check_rows(name, tensor.meta(), rows)?;
    let old = tensor.as_bytes();
    let mut bytes = old.to_vec();
    for (to, &from) in rows.iter().enumerate() {
        bytes[to * row..(to + 1) * row].copy_from_slice(&old[from * row..(from + 1) * row]);
    }
    Tensor::from_le_bytes(tensor.shape(), tensor.dtype(), &bytes)
}
