//! Time measured on the device's own clock, with the host's clock as a fallback that says so.

use super::buffer::Readback;
use super::device::Gpu;
use crate::error::Result;

/// Where a duration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Timestamp queries written by the device.
    Device,
    /// The host's clock around a submission that is waited for: includes its overhead.
    Host,
}

impl Clock {
    /// `device clock` or `host clock`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device clock",
            Self::Host => "host clock",
        }
    }
}

/// A set of timestamp slots.
pub struct Timestamps {
    pub(super) queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readback: Readback,
    count: u32,
    period: f32,
}

impl Timestamps {
    /// `count` slots, or `None` where the device has no timestamps inside passes.
    pub fn new(gpu: &Gpu, count: u32) -> Result<Option<Self>> {
        if !gpu.caps().timestamps {
            return Ok(None);
        }
        let bytes = u64::from(count) * 8;
        let device = &gpu.inner.device;
        let (queries, resolved) = gpu.scoped("timestamp queries", || {
            let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            let resolved = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: bytes,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            (queries, resolved)
        })?;
        let readback = Readback::new(gpu, "timestamps", bytes as usize)?;
        let period = gpu.inner.queue.get_timestamp_period();
        Ok(Some(Self { queries, resolved, readback, count, period }))
    }

    /// Slots.
    pub fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        let bytes = u64::from(self.count) * 8;
        encoder.resolve_query_set(&self.queries, 0..self.count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readback.buffer.raw, 0, Some(bytes));
    }

    /// Nanoseconds of each slot on the device's clock, after the submission that resolved them.
    pub fn read(&self, gpu: &Gpu) -> Result<Vec<f64>> {
        let bytes = self.readback.read(gpu, self.count as usize * 8)?;
        let ticks = bytes.as_chunks::<8>().0.iter().map(|&b| u64::from_le_bytes(b));
        Ok(ticks.map(|t| t as f64 * f64::from(self.period)).collect())
    }
}
