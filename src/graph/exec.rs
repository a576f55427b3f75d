//! A planned graph on a device: made once, replayed for every step.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use super::kernels::{choose_kernels, compile, metas};
use super::node::{Graph, Node, Source, Value};
use super::plan::{Place, Plan};
use super::state::States;
use super::weight::{DeviceWeight, DeviceWeights, Progress};
use crate::error::{Error, Result};
use crate::gpu::{BindGroup, Buffer, Commands, Gpu, Pass, Pipeline, Readback};
use crate::ops::{Call, Dispatch, Kernel, Part};
use crate::tensor::{Sizes, Tensor};

/// Work put into one submission at most, in floating-point operations: a tenth of a second on
/// a small integrated GPU, far below every driver's watchdog.
const SUBMISSION_FLOPS: f64 = 5e10;

/// How a session is made.
#[derive(Clone, Default)]
pub struct SessionOptions {
    /// Keep every intermediate, so that [`Session::value`] can read it after a step.
    pub keep_all: bool,
    /// Variants to use instead of the preferred ones, as (op, kernel).
    pub force: Vec<(String, String)>,
    /// Where states live; by default the session has its own.
    pub states: Option<Arc<States>>,
}

/// A graph made ready on a device for sizes up to a capacity.
///
/// Making one compiles, allocates and binds; [`run`](Self::run) and
/// [`record`](Self::record) do none of these, whatever the sizes of the step.
pub struct Session {
    pub(super) graph: Arc<Graph>,
    pub(super) gpu: Gpu,
    plan: Plan,
    buffers: Buffers,
    pub(super) steps: Vec<Step>,
    readbacks: Vec<Readback>,
    prepared: Mutex<Prepared>,
    /// Held for a whole step: its buffers hold one step's data at a time.
    pub(super) running: Mutex<()>,
    /// Holds one state while rows are exchanged; made at the first exchange.
    pub(super) exchange: Mutex<Option<Buffer>>,
}

/// One node with the kernels it may run, preferred first.
pub(super) struct Step {
    pub candidates: Vec<Candidate>,
}

pub(super) struct Candidate {
    pub kernel: &'static Kernel,
    pipeline: Arc<Pipeline>,
    parts: Vec<(Option<Part>, BindGroup)>,
}

/// Parameters and grids for the sizes of the last step, kept because most steps repeat them.
#[derive(Default)]
struct Prepared {
    sizes: Option<Sizes>,
    dispatches: Vec<(usize, Vec<Dispatch>, f64)>,
}

struct Buffers {
    slots: Vec<Buffer>,
    own: BTreeMap<Value, Buffer>,
    states: BTreeMap<Value, Arc<Buffer>>,
    weights: BTreeMap<Value, Arc<DeviceWeight>>,
    places: Vec<Place>,
}

impl Buffers {
    fn of(&self, value: Value, part: usize) -> Option<&Buffer> {
        match self.places[value.0 as usize] {
            Place::Slot(slot) => self.slots.get(slot),
            Place::Own => self.own.get(&value),
            Place::State(state) => self.states.get(&state).map(Arc::as_ref),
            Place::Weight => {
                let parts = &self.weights.get(&value)?.parts;
                parts.get(part).or(parts.first()).map(|(_, buffer)| buffer)
            }
            Place::Nowhere => None,
        }
    }
}

impl Session {
    /// Plans, loads what weights are missing, compiles, allocates and binds.
    ///
    /// `capacity` holds the largest value of each symbol; `progress` is called while weights
    /// load and may stop it.
    pub fn new(
        graph: Arc<Graph>,
        weights: &Arc<DeviceWeights>,
        capacity: Sizes,
        options: &SessionOptions,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Self> {
        let gpu = weights.gpu().clone();
        let plan = Plan::new(&graph, capacity, gpu.caps().max_binding, options.keep_all)?;
        let chosen = choose_kernels(&graph, &gpu, capacity, options)?;
        let pipelines = compile(&graph, &gpu, capacity, &chosen)?;
        weights.load(&graph.weights(), progress)?;
        let states = options.states.clone().unwrap_or_default();
        let buffers = allocate(&graph, &gpu, &plan, weights, &states)?;
        let mut steps = Vec::with_capacity(graph.nodes.len());
        for (node, pipelines) in graph.nodes.iter().zip(pipelines) {
            let bind = |(kernel, pipeline)| bind(&gpu, node, &buffers, kernel, pipeline);
            steps
                .push(Step { candidates: pipelines.into_iter().map(bind).collect::<Result<_>>()? });
        }
        let readbacks = graph
            .outputs
            .iter()
            .map(|(name, value)| {
                let bytes = graph.meta(*value).eval(&capacity)?.bytes();
                Readback::new(&gpu, name, bytes)
            })
            .collect::<Result<_>>()?;
        gpu.save_pipeline_cache()?;
        Ok(Self {
            graph,
            gpu,
            plan,
            buffers,
            steps,
            readbacks,
            prepared: Mutex::default(),
            running: Mutex::default(),
            exchange: Mutex::default(),
        })
    }

    /// The memory plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Dispatches of one step at these sizes.
    pub fn dispatches(&self, sizes: &Sizes) -> Result<usize> {
        self.with_dispatches(sizes, |all| all.iter().map(|(_, d, _)| d.len()).sum())
    }

    /// One step: inputs from the host, named outputs to the host.
    ///
    /// The sizes are read off the inputs' shapes. Errors when an input is missing, has another
    /// shape than the graph's, or exceeds the capacity. Calls from several threads wait for
    /// each other.
    pub fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<BTreeMap<String, Tensor>> {
        let sizes = self.graph.bind_sizes(inputs, Sizes::default())?;
        self.step(inputs, &sizes, None)
    }

    /// One step of these sizes. Inputs that are not given keep what the last step had; only
    /// the named outputs are read back, or all.
    ///
    /// Errors as [`run`](Self::run) does.
    pub fn step(
        &self,
        inputs: &[(&str, &Tensor)],
        sizes: &Sizes,
        wanted: Option<&[&str]>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_inputs(inputs, sizes)?;
        let commands = self.encode(sizes)?;
        self.read_outputs(commands, sizes, wanted)
    }

    /// Records a whole step; long work is cut, and all but its end submitted.
    pub(super) fn encode(&self, sizes: &Sizes) -> Result<Commands> {
        let mut commands = self.gpu.commands("step");
        self.with_dispatches(sizes, |all| -> Result<()> {
            let mut rest = all;
            while !rest.is_empty() {
                let mut flops = 0.0;
                let take = rest.iter().take_while(|(_, _, f)| {
                    flops += f;
                    flops <= SUBMISSION_FLOPS
                });
                let (now, later) = rest.split_at(take.count().max(1));
                rest = later;
                self.replay(&mut commands.pass(), now, rest_offset(all, rest, now));
                if !rest.is_empty() {
                    let full = std::mem::replace(&mut commands, self.gpu.commands("step"));
                    self.gpu.submit(full)?;
                }
            }
            Ok(())
        })??;
        Ok(commands)
    }

    fn read_outputs(
        &self,
        mut commands: Commands,
        sizes: &Sizes,
        wanted: Option<&[&str]>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted.contains(&name));
        let all = || self.graph.outputs.iter().zip(&self.readbacks);
        let wanted = || all().filter(|((name, _), _)| is_wanted(name));
        let mut metas = Vec::with_capacity(self.readbacks.len());
        for ((name, value), readback) in wanted() {
            let meta = self.graph.meta(*value).eval(sizes)?;
            let missing = || Error::tensor(name, "has no buffer");
            let buffer = self.buffers.of(*value, 0).ok_or_else(missing)?;
            commands.copy_out(buffer, readback, meta.bytes());
            metas.push(meta);
        }
        self.gpu.submit(commands)?;
        let mut outputs = BTreeMap::new();
        for (((name, _), readback), meta) in wanted().zip(metas) {
            let bytes = readback.read(&self.gpu, meta.bytes())?;
            outputs.insert(name.clone(), Tensor::from_le_bytes(meta.shape, meta.dtype, &bytes)?);
        }
        Ok(outputs)
    }

    /// Checks sizes against the capacity.
    pub(super) fn check_capacity(&self, sizes: &Sizes) -> Result<()> {
        for (index, name) in self.graph.symbols.iter().enumerate() {
            let sym = crate::tensor::Sym(index as u8);
            let (got, capacity) = (sizes.get(sym), self.plan.capacity.get(sym));
            if got > capacity {
                let message = format!("{name} is {got}, over the planned capacity of {capacity}");
                return Err(Error::Argument(message));
            }
        }
        Ok(())
    }

    /// Puts inputs on the device for the steps that follow; the others keep what they had.
    pub fn write(&self, inputs: &[(&str, &Tensor)], sizes: &Sizes) -> Result<()> {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_inputs(inputs, sizes)
    }

    pub(super) fn write_inputs(&self, inputs: &[(&str, &Tensor)], sizes: &Sizes) -> Result<()> {
        self.check_capacity(sizes)?;
        for (name, value, meta) in self.graph.inputs() {
            let tensor = inputs.iter().find(|(n, _)| *n == name).map(|(_, t)| *t);
            if let (Some(tensor), Some(buffer)) = (tensor, self.buffers.own.get(&value)) {
                let wanted = meta.eval(sizes)?;
                if tensor.meta() != wanted {
                    let message = format!("got {}, expected {wanted}", tensor.meta());
                    return Err(Error::tensor(name, message));
                }
                self.gpu.write(buffer, tensor.as_bytes())?;
            }
        }
        Ok(())
    }

    pub(super) fn input_buffer(&self, name: &str) -> Result<&Buffer> {
        let found = self.graph.inputs().find(|(n, ..)| *n == name);
        found
            .and_then(|(_, value, _)| self.buffers.own.get(&value))
            .ok_or_else(|| Error::tensor(name, "is not an input of this graph"))
    }

    pub(super) fn output_buffer(&self, value: Value) -> Option<&Buffer> {
        self.buffers.of(value, 0)
    }

    /// Records all dispatches of a step into a pass.
    pub(super) fn record_pass(&self, pass: &mut Pass<'_>, sizes: &Sizes) -> Result<()> {
        self.with_dispatches(sizes, |all| self.replay(pass, all, 0))
    }

    pub(super) fn replay(
        &self,
        pass: &mut Pass<'_>,
        dispatches: &[(usize, Vec<Dispatch>, f64)],
        first: usize,
    ) {
        for (step, (candidate, parts, _)) in self.steps[first..].iter().zip(dispatches) {
            let candidate = &step.candidates[*candidate];
            for ((_, bindings), dispatch) in candidate.parts.iter().zip(parts) {
                pass.dispatch(&candidate.pipeline, bindings, &dispatch.params, dispatch.grid);
            }
        }
    }

    pub(super) fn with_dispatches<T>(
        &self,
        sizes: &Sizes,
        use_them: impl FnOnce(&[(usize, Vec<Dispatch>, f64)]) -> T,
    ) -> Result<T> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if prepared.sizes != Some(*sizes) {
            prepared.sizes = None;
            prepared.dispatches.clear();
            for (node, step) in self.graph.nodes.iter().zip(&self.steps) {
                let dispatches = self.prepare(node, step, sizes)?;
                prepared.dispatches.push(dispatches);
            }
            prepared.sizes = Some(*sizes);
        }
        Ok(use_them(&prepared.dispatches))
    }

    fn prepare(
        &self,
        node: &Node,
        step: &Step,
        sizes: &Sizes,
    ) -> Result<(usize, Vec<Dispatch>, f64)> {
        let (inputs, outputs) = metas(&self.graph, node, sizes)?;
        let caps = self.gpu.caps();
        let call = Call { inputs: &inputs, outputs: &outputs, sizes, caps, part: None };
        let accepts = |c: &Candidate| node.op.accepts(c.kernel, &call);
        let index = step.candidates.iter().position(accepts).ok_or_else(|| {
            Error::op(node.op.name(), "no compiled kernel takes these sizes").in_layer(&node.layer)
        })?;
        let candidate = &step.candidates[index];
        let dispatch = |(part, _): &(Option<Part>, BindGroup)| {
            node.op.dispatch(candidate.kernel, &Call { part: *part, ..call })
        };
        let flops = node.op.cost(&call).flops;
        Ok((index, candidate.parts.iter().map(dispatch).collect(), flops))
    }

    /// A value of the last step, of a session made with `keep_all`.
    pub fn value(&self, value: Value, sizes: &Sizes) -> Result<Tensor> {
        let meta = self.graph.meta(value).eval(sizes)?;
        let missing = || Error::tensor(self.graph.describe(value), "has no buffer");
        let buffer = self.buffers.of(value, 0).ok_or_else(missing)?;
        let bytes = self.gpu.read(buffer, meta.bytes())?;
        Tensor::from_le_bytes(meta.shape, meta.dtype, &bytes)
    }
}

/// Index of the first node of `now`, the run of dispatches that ends where `rest` begins.
fn rest_offset<T>(all: &[T], rest: &[T], now: &[T]) -> usize {
    all.len() - rest.len() - now.len()
}

fn allocate(
    graph: &Graph,
    gpu: &Gpu,
    plan: &Plan,
    weights: &DeviceWeights,
    states: &States,
) -> Result<Buffers> {
    let slot = |(i, &bytes): (usize, &u64)| gpu.buffer(&format!("slot {i}"), bytes as usize);
    let mut buffers = Buffers {
        slots: plan.slots.iter().enumerate().map(slot).collect::<Result<_>>()?,
        own: BTreeMap::new(),
        states: BTreeMap::new(),
        weights: BTreeMap::new(),
        places: plan.places.clone(),
    };
    for (name, value, meta) in graph.states() {
        buffers.states.insert(value, states.buffer(gpu, name, meta.eval(&plan.capacity)?)?);
    }
    for (index, place) in plan.places.iter().enumerate() {
        let value = Value(index as u32);
        match (place, graph.source(value)) {
            (Place::Own, _) => {
                let bytes = graph.meta(value).eval(&plan.capacity)?.bytes();
                buffers.own.insert(value, gpu.buffer(&graph.describe(value), bytes)?);
            }
            (Place::Weight, Source::Weight(weight)) => {
                buffers.weights.insert(value, weights.get(weight)?);
            }
            _ => {}
        }
    }
    Ok(buffers)
}

fn bind(
    gpu: &Gpu,
    node: &Node,
    buffers: &Buffers,
    kernel: &'static Kernel,
    pipeline: Arc<Pipeline>,
) -> Result<Candidate> {
    let (inputs, outputs) = (node.op.inputs(), node.op.outputs());
    let split = node.op.splittable().and_then(|i| node.inputs.get(i).copied().flatten());
    let ranges = match split.and_then(|v| buffers.weights.get(&v)) {
        Some(weight) => weight.parts.iter().map(|(range, _)| *range).collect(),
        None => vec![None],
    };
    let dummy = node.inputs.iter().flatten().next().copied();
    let mut parts = Vec::with_capacity(ranges.len());
    for (index, range) in ranges.into_iter().enumerate() {
        let lookup = |name: &str| {
            if let Some(o) = outputs.iter().position(|n| *n == name) {
                return buffers.of(*node.outputs.get(o)?, 0);
            }
            let i = inputs.iter().position(|n| *n == name)?;
            // An absent operand's binding is never read; any read-only buffer will do.
            buffers.of(node.inputs.get(i).copied().flatten().or(dummy)?, index)
        };
        parts.push((range, gpu.bind(&pipeline, lookup).map_err(|e| e.in_layer(&node.layer))?));
    }
    Ok(Candidate { kernel, pipeline, parts })
}
