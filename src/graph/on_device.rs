//! Sessions on a device as executors.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ahead::DeviceAhead;
use super::exec::Session;
use super::executor::{Ahead, Executor};
use super::node::{Graph, Value};
use super::profile::NodeTime;
use crate::error::Result;
use crate::gpu::Clock;
use crate::ops::Kernel;
use crate::tensor::{Sizes, Tensor};

impl Executor for Session {
    fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    fn capacity(&self) -> Option<Sizes> {
        Some(self.plan().capacity)
    }

    fn kernel(&self, node: usize, sizes: &Sizes) -> Result<Option<&'static dyn Kernel>> {
        self.with_dispatches(sizes, |all| {
            let candidates = self.steps.get(node).map(|step| &step.candidates);
            let work = all.get(node);
            Some(candidates?.get(work?.candidate)?.kernel())
        })
    }

    fn step(
        &self,
        inputs: &[(&str, &Tensor)],
        sizes: &Sizes,
        wanted: Option<&[&str]>,
    ) -> Result<BTreeMap<String, Tensor>> {
        Self::step(self, inputs, sizes, wanted)
    }

    fn write(&self, inputs: &[(&str, &Tensor)], sizes: &Sizes) -> Result<()> {
        Self::write(self, inputs, sizes)
    }

    fn value(&self, value: Value, sizes: &Sizes) -> Result<Tensor> {
        Self::value(self, value, sizes)
    }

    fn permute(&self, rows: &[usize], sizes: &Sizes) -> Result<()> {
        Self::permute(self, rows, sizes)
    }

    fn profile_step(
        &self,
        inputs: &[(&str, &Tensor)],
        sizes: &Sizes,
    ) -> Result<(Vec<NodeTime>, Clock)> {
        Self::profile_step(self, inputs, sizes)
    }

    fn ahead(self: Arc<Self>, from: &str, to: &str, depth: usize) -> Result<Box<dyn Ahead>> {
        Ok(Box::new(DeviceAhead::new(self, from, to, depth)?))
    }
}
