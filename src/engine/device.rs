//! Where graphs run.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::Result;
use crate::gpu::{Choice, Gpu};
use crate::graph::{
    DeviceWeights, Executor, Graph, HostSession, HostWeights, LoadTimes, Policy, Progress, Session,
    SessionOptions,
};
use crate::tensor::Sizes;

/// Where graphs run, with the weights loaded there so far; clones share them.
#[derive(Clone)]
pub enum Device {
    /// The CPU reference route.
    Cpu(Arc<HostWeights>),
    /// A device reached through wgpu.
    Gpu(Arc<DeviceWeights>),
}

impl Device {
    /// The CPU reference route.
    pub fn cpu() -> Self {
        Self::Cpu(Arc::default())
    }

    /// A device.
    pub fn gpu(gpu: &Gpu) -> Self {
        Self::Gpu(DeviceWeights::new(gpu))
    }

    /// A device whose sessions choose their kernels by this policy.
    pub fn with_policy(gpu: &Gpu, policy: Policy) -> Self {
        Self::Gpu(DeviceWeights::with_policy(gpu, policy))
    }

    /// The device behind it; `None` on the CPU.
    pub fn as_gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu(weights) => Some(weights.gpu()),
        }
    }

    /// The adapter's name, or `CPU`.
    pub fn name(&self) -> &str {
        self.as_gpu().map_or("CPU", |gpu| &gpu.caps().name)
    }

    /// How long the sessions made here so far took to become ready; nothing on the CPU, which
    /// loads as it runs.
    pub fn load_times(&self) -> LoadTimes {
        match self {
            Self::Cpu(_) => LoadTimes::default(),
            Self::Gpu(weights) => weights.times(),
        }
    }

    /// Makes `graph` ready to run here for sizes up to `capacity`. On a device this loads its
    /// weights, with progress; the CPU reads them when a step needs them, and has no capacity.
    ///
    /// Errors as [`Session::new`] does.
    pub fn session(
        &self,
        graph: &Arc<Graph>,
        capacity: Sizes,
        options: &SessionOptions,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Arc<dyn Executor>> {
        let graph = Arc::clone(graph);
        Ok(match self {
            Self::Cpu(weights) => Arc::new(HostSession::new(graph, weights, options)),
            Self::Gpu(weights) => {
                Arc::new(Session::new(graph, weights, capacity, options, progress)?)
            }
        })
    }
}

impl From<Choice> for Device {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Cpu(_) => Self::cpu(),
            Choice::Gpu(gpu) => Self::gpu(&gpu),
        }
    }
}
