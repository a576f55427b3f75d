//! Device buffers, chunked upload, readback.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

use super::device::Gpu;
use crate::error::{Error, Result};

/// Bytes per upload chunk: large enough to reach copy bandwidth, small enough that host
/// memory stays bounded while a model loads.
const CHUNK: usize = 4 << 20;

/// A storage buffer on the device; counted in the device's memory account until dropped.
#[derive(Debug)]
pub struct Buffer {
    pub(super) raw: wgpu::Buffer,
    size: u64,
    account: Arc<AtomicU64>,
}

impl Buffer {
    /// Size in bytes: a multiple of 4, at least 16.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The wgpu buffer, for embedders.
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.account.fetch_sub(self.size, Ordering::Relaxed);
    }
}

impl Gpu {
    /// A buffer that kernels can bind and copies can reach.
    ///
    /// Errors with [`Error::OutOfMemory`] beyond the budget or the device's memory, and when
    /// it exceeds the largest binding.
    pub fn buffer(&self, label: &str, bytes: usize) -> Result<Buffer> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        self.buffer_with(label, bytes, usage)
    }

    pub(super) fn buffer_with(
        &self,
        label: &str,
        bytes: usize,
        usage: wgpu::BufferUsages,
    ) -> Result<Buffer> {
        // At least one vec4: WGSL requires a binding to hold one element of its array.
        let size = bytes.next_multiple_of(4).max(16) as u64;
        let caps = self.caps();
        let limit = caps.max_buffer.min(caps.max_binding.max(16));
        if usage.contains(wgpu::BufferUsages::STORAGE) && size > limit {
            return Err(Error::OutOfMemory(format!(
                "buffer `{label}` of {size} bytes exceeds the largest binding of {} ({limit})",
                caps.name
            )));
        }
        let held = self.inner.allocated.fetch_add(size, Ordering::Relaxed) + size;
        // From here on the account is settled by the buffer's drop.
        let account = Arc::clone(&self.inner.allocated);
        let give_back = |error| {
            self.inner.allocated.fetch_sub(size, Ordering::Relaxed);
            error
        };
        if let Some(budget) = self.inner.options.memory_budget.filter(|&b| held > b) {
            return Err(give_back(Error::OutOfMemory(format!(
                "buffer `{label}` of {size} bytes would bring the total to {held}, over the \
                 budget of {budget}"
            ))));
        }
        let raw = self
            .scoped(&format!("buffer `{label}` of {size} bytes"), || {
                self.inner.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(label),
                    size,
                    usage,
                    mapped_at_creation: false,
                })
            })
            .map_err(give_back)?;
        self.inner.counters.buffers.fetch_add(1, Ordering::Relaxed);
        Ok(Buffer { raw, size, account })
    }

    /// Writes a small piece of data (ids, masks) at the start of a buffer before the next
    /// submission runs. Larger data go through [`Upload`].
    pub fn write(&self, buffer: &Buffer, data: &[u8]) -> Result<()> {
        if data.len() as u64 > buffer.size {
            let size = buffer.size;
            return Err(Error::Device(format!("{} bytes into a buffer of {size}", data.len())));
        }
        let whole = data.len() / 4 * 4;
        self.scoped("write", || {
            if whole > 0 {
                self.inner.queue.write_buffer(&buffer.raw, 0, &data[..whole]);
            }
            if whole < data.len() {
                let mut last = [0; 4];
                last[..data.len() - whole].copy_from_slice(&data[whole..]);
                self.inner.queue.write_buffer(&buffer.raw, whole as u64, &last);
            }
        })
    }
}

/// Streams large data to the device through two staging buffers of a fixed size, so that no
/// second copy of a model ever exists on the host and a failing allocation cannot take the
/// device down inside `write_buffer`.
pub struct Upload {
    gpu: Gpu,
    staging: Vec<Staging>,
    next: usize,
    scratch: Vec<u8>,
}

struct Staging {
    buffer: Buffer,
    mapping: Option<Receiver<Result<(), wgpu::BufferAsyncError>>>,
}

impl Upload {
    /// Allocates the staging buffers.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let staging = (0..2)
            .map(|i| {
                let buffer = gpu.buffer_with(&format!("upload {i}"), CHUNK, usage)?;
                // In a scope: a host's device may be dead without our knowing.
                let mapping = gpu.scoped("upload", || map(&buffer, wgpu::MapMode::Write))?;
                Ok(Staging { buffer, mapping: Some(mapping) })
            })
            .collect::<Result<_>>()?;
        Ok(Self { gpu: gpu.clone(), staging, next: 0, scratch: Vec::new() })
    }

    /// Fills `bytes` bytes of `target` from its start: `fill` is called with consecutive
    /// chunks and the byte offset of each.
    pub fn fill(
        &mut self,
        target: &Buffer,
        bytes: usize,
        mut fill: impl FnMut(usize, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        if bytes as u64 > target.size {
            return Err(Error::Device(format!("{bytes} bytes into a buffer of {}", target.size)));
        }
        let mut offset = 0;
        while offset < bytes {
            let len = CHUNK.min(bytes - offset);
            let padded = len.next_multiple_of(4);
            self.scratch.clear();
            self.scratch.resize(padded, 0);
            fill(offset, &mut self.scratch[..len])?;
            self.send(target, offset as u64, padded as u64)?;
            offset += len;
        }
        Ok(())
    }

    fn send(&mut self, target: &Buffer, offset: u64, len: u64) -> Result<()> {
        let gpu = self.gpu.clone();
        let stage = &mut self.staging[self.next];
        self.next = (self.next + 1) % 2;
        if let Some(mapping) = stage.mapping.take() {
            gpu.wait_mapped(&mapping, "staging buffer")?;
        }
        let scratch = &self.scratch;
        gpu.scoped("upload", || -> Result<()> {
            let slice = stage.buffer.raw.slice(..len);
            let mut view =
                slice.get_mapped_range_mut().map_err(|e| Error::Device(e.to_string()))?;
            view.copy_from_slice(scratch);
            drop(view);
            stage.buffer.raw.unmap();
            let mut encoder = gpu.inner.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&stage.buffer.raw, 0, &target.raw, offset, Some(len));
            gpu.inner.queue.submit([encoder.finish()]);
            Ok(())
        })??;
        stage.mapping = Some(gpu.scoped("upload", || map(&stage.buffer, wgpu::MapMode::Write))?);
        Ok(())
    }
}

fn map(buffer: &Buffer, mode: wgpu::MapMode) -> Receiver<Result<(), wgpu::BufferAsyncError>> {
    let (sender, receiver) = channel();
    buffer.raw.slice(..).map_async(mode, move |result| {
        // The receiver is gone only if the wait was given up.
        let _ = sender.send(result);
    });
    receiver
}

impl Gpu {
    fn wait_mapped(
        &self,
        mapping: &Receiver<Result<(), wgpu::BufferAsyncError>>,
        what: &str,
    ) -> Result<()> {
        self.wait_for(what, || mapping.try_recv().ok())?
            .map_err(|e| Error::Device(format!("{what}: {e}")))
    }
}

/// A readback that was asked for.
pub struct Mapping(Receiver<Result<(), wgpu::BufferAsyncError>>);

/// A host-readable buffer, made once and used for every step's result.
#[derive(Debug)]
pub struct Readback {
    pub(super) buffer: Buffer,
}

impl Readback {
    /// Room for `bytes` bytes.
    pub fn new(gpu: &Gpu, label: &str, bytes: usize) -> Result<Self> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Self { buffer: gpu.buffer_with(label, bytes, usage)? })
    }

    /// Waits for the submission that copied into it and returns the first `bytes` bytes.
    pub fn read(&self, gpu: &Gpu, bytes: usize) -> Result<Vec<u8>> {
        let mapping = self.start(gpu)?;
        self.finish(gpu, &mapping, bytes)
    }

    /// Asks for the bytes without waiting, after the submission that copies into it. Nothing
    /// may copy into it again before [`finish`](Self::finish).
    pub fn start(&self, gpu: &Gpu) -> Result<Mapping> {
        Ok(Mapping(gpu.scoped("readback", || map(&self.buffer, wgpu::MapMode::Read))?))
    }

    /// Waits for what [`start`](Self::start) asked for and returns the first `bytes` bytes.
    pub fn finish(&self, gpu: &Gpu, mapping: &Mapping, bytes: usize) -> Result<Vec<u8>> {
        gpu.wait_mapped(&mapping.0, "readback")?;
        let out = {
            let slice = self.buffer.raw.slice(..);
            let view = slice.get_mapped_range().map_err(|e| Error::Device(e.to_string()))?;
            view[..bytes].to_vec()
        };
        self.buffer.raw.unmap();
        Ok(out)
    }
}

impl Gpu {
    /// Copies a buffer's first `bytes` bytes to the host and waits for them. For tools and
    /// tests: a session keeps its own [`Readback`].
    pub fn read(&self, buffer: &Buffer, bytes: usize) -> Result<Vec<u8>> {
        let readback = Readback::new(self, "readback", bytes)?;
        let mut commands = self.commands("readback");
        commands.copy_out(buffer, &readback, bytes);
        self.submit(commands)?;
        readback.read(self, bytes)
    }
}
