//! A model's graph on a device, with sessions that grow as inputs do.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use super::device::Device;
use crate::error::{Error, Result};
use crate::graph::{Executor, Graph, Progress, SessionOptions, fuse};
use crate::tensor::{Sizes, Tensor};

/// Runs one graph on one device. A session is made for the sizes at hand, and kept for every
/// later call that fits it.
pub struct Runner {
    graph: Arc<Graph>,
    device: Device,
    /// Read by calls that fit it, which wait for each other only where the session says so.
    session: RwLock<Option<Arc<dyn Executor>>>,
}

impl Runner {
    /// Fuses the graph for this device.
    pub fn new(graph: Graph, device: Device) -> Result<Self> {
        Ok(Self::fused(Arc::new(fuse(graph, &[])?), device))
    }

    /// A graph that is fused already, which several runners may share.
    pub fn fused(graph: Arc<Graph>, device: Device) -> Self {
        Self { graph, device, session: RwLock::default() }
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

    /// Makes the session for these largest sizes, as [`Graph::sizes`] gives them, ahead of the
    /// first call: weights are loaded, with progress, and kernels compiled.
    pub fn reserve(
        &self,
        sizes: &Sizes,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.with_session(sizes, progress, |_| Ok(()))
    }

    /// One forward pass; see [`Executor::run`].
    pub fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<BTreeMap<String, Tensor>> {
        let sizes = self.graph.bind_sizes(inputs, Sizes::default())?;
        if let Some((name, _)) = inputs.iter().find(|(_, t)| t.shape().numel() == 0) {
            return Err(Error::tensor(*name, "is empty; at least one token is needed"));
        }
        let go_on = &mut |_: Progress<'_>| ControlFlow::Continue(());
        self.with_session(&sizes, go_on, |session| session.step(inputs, &sizes, None))
    }

    /// Uses the session, which is replaced first when it is too small, never shrinking a size.
    fn with_session<T>(
        &self,
        wanted: &Sizes,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
        use_it: impl FnOnce(&dyn Executor) -> Result<T>,
    ) -> Result<T> {
        let fits = |s: &Arc<dyn Executor>| s.capacity().is_none_or(|have| have.covers(wanted));
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = session.as_ref().filter(|s| fits(s)) {
            return use_it(session.as_ref());
        }
        drop(session);
        let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
        // The old buffers go first, so that both never exist at once.
        let made = match session.take() {
            Some(grown) if fits(&grown) => grown,
            old => {
                let have = old.and_then(|s| s.capacity());
                let capacity = have.map_or(*wanted, |have| have.joined(wanted));
                let options = SessionOptions::default();
                self.device.session(&self.graph, capacity, &options, progress)?
            }
        };
        use_it(session.insert(made).as_ref())
    }
}
