//! A model's graph on a device, with sessions that grow as inputs do.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::gpu::{Choice, Gpu};
use crate::graph::{
    DeviceWeights, Graph, HostWeights, Progress, Session, SessionOptions, fuse, run_cpu,
};
use crate::tensor::{Sizes, Sym, Tensor};

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

    /// The adapter's name, or `CPU`.
    pub fn name(&self) -> &str {
        match self {
            Self::Cpu(_) => "CPU",
            Self::Gpu(weights) => &weights.gpu().caps().name,
        }
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

/// Runs one graph on one device. A session is made for the sizes at hand, rounded up, and kept
/// for every later call that fits it.
pub struct Runner {
    graph: Arc<Graph>,
    device: Device,
    session: Mutex<Option<Session>>,
}

impl Runner {
    /// Fuses the graph for this device.
    pub fn new(graph: Graph, device: Device) -> Result<Self> {
        Ok(Self::fused(Arc::new(fuse(graph, &[])?), device))
    }

    /// A graph that is fused already, which several runners may share.
    pub fn fused(graph: Arc<Graph>, device: Device) -> Self {
        Self { graph, device, session: Mutex::default() }
    }

    /// The fused graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What is wrong with the weights, as far as they were read; see [`Graph::warnings`].
    pub fn warnings(&self) -> Vec<String> {
        self.graph.warnings()
    }

    /// Makes the session for these largest sizes, given by symbol name, ahead of the first
    /// call: weights are loaded, with progress, and kernels compiled. Sizes not named are 1.
    pub fn reserve(
        &self,
        sizes: &[(&str, usize)],
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut capacity = Sizes::default();
        for (index, name) in self.graph.symbols().iter().enumerate() {
            let given = sizes.iter().find(|(n, _)| n == name).map_or(1, |(_, v)| *v);
            capacity.set(Sym(index as u8), given.max(1));
        }
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        self.grow(&mut session, capacity, progress)
    }

    /// One forward pass; see [`Session::run`].
    pub fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<BTreeMap<String, Tensor>> {
        let sizes = self.graph.bind_sizes(inputs, Sizes::default())?;
        if let Some((name, _)) = inputs.iter().find(|(_, t)| t.shape().numel() == 0) {
            return Err(Error::tensor(*name, "is empty; at least one token is needed"));
        }
        if let Device::Cpu(weights) = &self.device {
            return run_cpu(&self.graph, weights, inputs, Sizes::default());
        }
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        self.grow(&mut session, sizes, &mut |_| ControlFlow::Continue(()))?;
        match session.as_ref() {
            Some(session) => session.run(inputs),
            None => Err(Error::Argument("the session could not be made".to_owned())),
        }
    }

    /// Replaces the session when it is too small, never shrinking a size.
    fn grow(
        &self,
        session: &mut Option<Session>,
        wanted: Sizes,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let Device::Gpu(weights) = &self.device else { return Ok(()) };
        let mut capacity = session.as_ref().map_or(wanted, |s| s.plan().capacity);
        let mut fits = session.is_some();
        for index in 0..self.graph.symbols().len() {
            let sym = Sym(index as u8);
            let (have, want) = (capacity.get(sym), wanted.get(sym));
            if want > have {
                fits = false;
                capacity.set(sym, want);
            }
        }
        if !fits {
            // The old buffers go first, so that both never exist at once.
            *session = None;
            let graph = Arc::clone(&self.graph);
            let options = SessionOptions::default();
            *session = Some(Session::new(graph, weights, capacity, &options, progress)?);
        }
        Ok(())
    }
}
