//! Recording: one encoder, one compute pass, dispatches with immediates.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::buffer::{Buffer, Readback};
use super::device::Gpu;
use super::params::ParamBytes;
use super::pipeline::{BindGroup, Pipeline};
use super::timing::Timestamps;
use crate::error::Result;

/// Commands being recorded, to be handed to [`Gpu::submit`].
pub struct Commands {
    pub(super) encoder: wgpu::CommandEncoder,
}

impl Gpu {
    /// Starts recording.
    pub fn commands(&self, label: &str) -> Commands {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some(label) };
        Commands { encoder: self.inner.device.create_command_encoder(&descriptor) }
    }

    /// Submits what was recorded, without waiting.
    pub fn submit(&self, commands: Commands) -> Result<()> {
        self.scoped("submit", || self.inner.queue.submit([commands.encoder.finish()]))?;
        self.inner.counters.submissions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Submits and waits: the time both take on the host's clock, to about 0.1 ms.
    pub fn submit_timed(&self, commands: Commands) -> Result<Duration> {
        let (sender, receiver) = channel();
        let start = Instant::now();
        self.submit(commands)?;
        self.inner.queue.on_submitted_work_done(move || {
            // The receiver is gone only if the wait was given up.
            let _ = sender.send(());
        });
        let pause = |_| Duration::from_micros(50);
        self.wait_paced("timed work", || receiver.try_recv().ok(), pause)?;
        Ok(start.elapsed())
    }
}

impl Commands {
    /// One compute pass; all dispatches of a step go into it.
    pub fn pass(&mut self) -> Pass<'_> {
        Pass::begin(&mut self.encoder)
    }

    /// Copies the first `bytes` bytes between device buffers.
    pub fn copy(&mut self, from: &Buffer, to: &Buffer, bytes: usize) {
        let bytes = (bytes.next_multiple_of(4) as u64).min(from.size()).min(to.size());
        if bytes > 0 {
            self.encoder.copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, Some(bytes));
        }
    }

    /// Copies `bytes` bytes between places in two device buffers, all multiples of 4. What lies
    /// beyond either end is left out.
    pub fn copy_range(&mut self, from: &Buffer, at: u64, to: &Buffer, to_at: u64, bytes: u64) {
        let room = from.size().saturating_sub(at).min(to.size().saturating_sub(to_at));
        let bytes = bytes.min(room) / 4 * 4;
        if bytes > 0 {
            self.encoder.copy_buffer_to_buffer(&from.raw, at, &to.raw, to_at, Some(bytes));
        }
    }

    /// Copies the first `bytes` bytes of a buffer where the host can read them.
    pub fn copy_out(&mut self, from: &Buffer, to: &Readback, bytes: usize) {
        self.copy(from, &to.buffer, bytes);
    }

    /// Moves the timestamps written so far to where the host can read them.
    pub fn resolve(&mut self, stamps: &Timestamps) {
        stamps.resolve(&mut self.encoder);
    }
}

/// A compute pass.
pub struct Pass<'a> {
    raw: wgpu::ComputePass<'a>,
}

impl<'a> Pass<'a> {
    /// Opens a pass on any encoder, also a host program's own.
    pub fn begin(encoder: &'a mut wgpu::CommandEncoder) -> Self {
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: None };
        Self { raw: encoder.begin_compute_pass(&descriptor) }
    }

    /// Records one dispatch. An empty grid records nothing.
    pub fn dispatch(
        &mut self,
        pipeline: &Pipeline,
        bindings: &BindGroup,
        params: &ParamBytes,
        grid: [u32; 3],
    ) {
        if grid.contains(&0) {
            return;
        }
        self.raw.set_pipeline(&pipeline.raw);
        self.raw.set_bind_group(0, &bindings.raw, &[]);
        if !params.as_slice().is_empty() {
            self.raw.set_immediates(0, params.as_slice());
        }
        self.raw.dispatch_workgroups(grid[0], grid[1], grid[2]);
    }

    /// Writes the device's clock into slot `index`.
    pub fn stamp(&mut self, stamps: &Timestamps, index: u32) {
        self.raw.write_timestamp(&stamps.queries, index);
    }
}
