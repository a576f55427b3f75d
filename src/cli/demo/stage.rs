//! What every task of the demo is given.

use std::ops::ControlFlow;

use crate::cli::context::Context;
use crate::engine::Device;
use crate::gpu::Gpu;

/// Where the demo runs.
pub(super) struct Stage<'a> {
    pub context: &'a Context,
    pub device: Device,
}

impl Stage<'_> {
    /// The GPU, if it runs on one.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.device.as_gpu()
    }

    /// What callbacks that may stop a task say.
    pub fn go_on(&self) -> ControlFlow<()> {
        if self.context.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
