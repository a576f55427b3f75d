//! What is kept from step to step: key and value caches, on a device or in host memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::node::Graph;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu};
use crate::tensor::{Meta, Sizes, Tensor};

/// States on a device, by name. Sessions made with the same `States` share those of equal
/// names, as an encoder that fills caches and the decoder that reads them do.
#[derive(Default)]
pub struct States {
    buffers: Mutex<HashMap<String, Arc<Buffer>>>,
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

    /// Puts row `rows[b]` into row b of every state that `graph` writes, rows being along the
    /// first dimension: beam search continues the best beams this way. `scratch` holds one
    /// state meanwhile. Errors when a row does not exist.
    pub fn permute(
        &self,
        gpu: &Gpu,
        scratch: &Buffer,
        graph: &Graph,
        rows: &[usize],
        sizes: &Sizes,
    ) -> Result<()> {
        let mut commands = gpu.commands("permute");
        let buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, _, meta) in graph.written_states() {
            let missing = || Error::tensor(name, "is not on the device yet");
            let buffer = buffers.get(name).ok_or_else(missing)?;
            let meta = meta.eval(sizes)?;
            let batch = meta.shape.dims().first().copied().unwrap_or(1).max(1);
            if let Some(wrong) = rows.iter().find(|&&r| r >= batch) {
                return Err(Error::tensor(
                    name,
                    format!("has {batch} rows, row {wrong} is wanted"),
                ));
            }
            let row = (meta.bytes() / batch) as u64;
            commands.copy(buffer, scratch, meta.bytes());
            for (to, &from) in rows.iter().enumerate() {
                commands.copy_range(scratch, from as u64 * row, buffer, to as u64 * row, row);
            }
        }
        gpu.submit(commands)
    }
}

/// States in host memory, by name.
#[derive(Default)]
pub struct HostStates {
    tensors: Mutex<HashMap<String, Tensor>>,
}

impl HostStates {
    /// Takes a state out to be changed: zeros when it is new or was kept for other sizes.
    pub(super) fn take(&self, name: &str, meta: Meta) -> Result<Tensor> {
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        match tensors.remove(name).filter(|t| t.meta() == meta) {
            Some(tensor) => Ok(tensor),
            None => Tensor::zeros(meta),
        }
    }

    /// Puts a state back.
    pub(super) fn put(&self, name: &str, tensor: Tensor) {
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        tensors.insert(name.to_owned(), tensor);
    }

    /// Puts row `rows[b]` into row b of every state that `graph` writes.
    pub fn permute(&self, graph: &Graph, rows: &[usize]) -> Result<()> {
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, ..) in graph.written_states() {
            let Some(tensor) = tensors.get_mut(name) else { continue };
            let batch = tensor.shape().dims().first().copied().unwrap_or(1).max(1);
            if let Some(wrong) = rows.iter().find(|&&r| r >= batch) {
                return Err(Error::tensor(
                    name,
                    format!("has {batch} rows, row {wrong} is wanted"),
                ));
            }
            let mut bytes = tensor.as_bytes().to_vec();
            let row = bytes.len() / batch;
            for (to, &from) in rows.iter().enumerate() {
                bytes[to * row..(to + 1) * row]
                    .copy_from_slice(&tensor.as_bytes()[from * row..(from + 1) * row]);
            }
            *tensor = Tensor::from_le_bytes(tensor.shape(), tensor.dtype(), &bytes)?;
        }
        Ok(())
    }
}
