//! One interface over everything that runs a graph: a device, or the CPU.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::node::{Graph, Value};
use super::profile::NodeTime;
use crate::error::Result;
use crate::gpu::Clock;
use crate::ops::Kernel;
use crate::tensor::{Sizes, Tensor};

/// A graph made ready to run, step after step: a [`Session`](super::Session) on a device, or a
/// [`HostSession`](super::HostSession) on the CPU.
///
/// Both take the same inputs and give the same results within rounding; what runs models speaks
/// to this interface only, and never asks where it is.
pub trait Executor: Send + Sync {
    /// The graph.
    fn graph(&self) -> &Arc<Graph>;

    /// The largest value of each size that it was made for; `None` where memory is the only
    /// limit, which is on the CPU.
    fn capacity(&self) -> Option<Sizes>;

    /// One step: inputs from the host, named outputs to the host. The sizes are read off the
    /// inputs' shapes.
    ///
    /// Errors when an input is missing, has another shape than the graph's, or exceeds the
    /// capacity. Calls from several threads may wait for each other.
    fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<BTreeMap<String, Tensor>> {
        let sizes = self.graph().bind_sizes(inputs, Sizes::default())?;
        self.step(inputs, &sizes, None)
    }

    /// One step of these sizes. Inputs that are not given keep what the last step had; only the
    /// outputs named in `wanted` are given, or all.
    ///
    /// Errors as [`run`](Self::run) does.
    fn step(
        &self,
        inputs: &[(&str, &Tensor)],
        sizes: &Sizes,
        wanted: Option<&[&str]>,
    ) -> Result<BTreeMap<String, Tensor>>;

    /// Gives inputs to the steps that follow; the others keep what they had.
    fn write(&self, inputs: &[(&str, &Tensor)], sizes: &Sizes) -> Result<()>;

    /// A value of the last step, of an executor made with
    /// [`keep_all`](super::SessionOptions::keep_all). Errors when it was not kept.
    fn value(&self, value: Value, sizes: &Sizes) -> Result<Tensor>;

    /// Puts row `rows[b]` into row b of every state that the graph writes, rows being along the
    /// first dimension: beam search continues the best beams this way. Errors when a row does
    /// not exist.
    fn permute(&self, rows: &[usize], sizes: &Sizes) -> Result<()>;

    /// The kernel that runs the node of this index at these sizes; `None` on the CPU, whose ops
    /// have one route each.
    fn kernel(&self, node: usize, sizes: &Sizes) -> Result<Option<&'static dyn Kernel>>;

    /// One step with the time of every node, in order, and the clock it was taken from. Errors
    /// on the CPU.
    fn profile_step(
        &self,
        inputs: &[(&str, &Tensor)],
        sizes: &Sizes,
    ) -> Result<(Vec<NodeTime>, Clock)>;

    /// A loop around steps from output `from`, u32 `[batch]`, to input `to` of as many
    /// elements, with up to `depth` steps on their way. Errors when the graph lacks either.
    fn ahead(self: Arc<Self>, from: &str, to: &str, depth: usize) -> Result<Box<dyn Ahead>>;
}

/// Steps whose result becomes an input of the next step where they run, without a round trip
/// through the caller: decoding, where the id a step chooses is what the next one embeds.
///
/// On a device every step is submitted at once, and its result waited for only when as many
/// steps as the loop is deep are on their way. The CPU computes a step when it is submitted and
/// has no step on its way beside it.
pub trait Ahead: Send {
    /// Whether a result must be [taken](Self::take) before the next step.
    fn is_full(&self) -> bool;

    /// The most steps that were ever on their way at once.
    fn deepest(&self) -> usize;

    /// Submits one step of these sizes, on the inputs that were [written](Executor::write), and
    /// carries its result over to the next step's input. Errors when the loop is full.
    fn submit(&mut self, sizes: &Sizes) -> Result<()>;

    /// The oldest result not taken yet, waited for; `None` when no step is on its way.
    fn take(&mut self, sizes: &Sizes) -> Result<Option<Vec<u32>>>;
}
