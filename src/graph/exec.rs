//! A planned graph on a device: made once, replayed for every step.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::choose::{Bucket, Metas, choose_kernels, compile};
use super::loaded::{DeviceWeight, DeviceWeights, Progress};
use super::narrow::narrow;
use super::node::{Graph, Node, Source, Value};
use super::options::SessionOptions;
use super::plan::{Place, Plan};
use super::state::States;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Commands, Gpu, Pass, Readback};
use crate::ops::{Compiled, Dispatch, Launch, Slot};
use crate::tensor::{Sizes, Tensor};

/// Work put into one submission at most, in floating-point operations: a tenth of a second on
/// a small integrated GPU, far below every driver's watchdog.
const SUBMISSION_FLOPS: f64 = 5e10;

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

/// One node with the kernels it may run.
pub(super) struct Step {
    pub candidates: Vec<Launch>,
    /// Scratch bytes there are for it.
    scratch: usize,
    /// What tuning found for some sizes.
    tuned: Vec<(Bucket, usize)>,
    /// The symbols that its shapes and attributes refer to, one bit each.
    symbols: u32,
}

/// Parameters and grids of all nodes for the sizes of the last step. A step prepares only the
/// nodes whose symbols changed since, and allocates nothing.
#[derive(Default)]
struct Prepared {
    sizes: Option<Sizes>,
    nodes: Vec<Work>,
    metas: Metas,
}

/// What one node records in a step.
#[derive(Default)]
pub(super) struct Work {
    /// Index into the step's candidates.
    pub candidate: usize,
    pub dispatches: Vec<Dispatch>,
    /// Floating-point operations.
    pub flops: f64,
}

struct Buffers {
    slots: Vec<Buffer>,
    own: BTreeMap<Value, Buffer>,
    states: BTreeMap<Value, Arc<Buffer>>,
    weights: BTreeMap<Value, Arc<DeviceWeight>>,
    places: Vec<Place>,
    /// The slot of each node's scratch memory.
    scratch: Vec<Option<usize>>,
}

impl Buffers {
    fn of(&self, value: Value, part: usize) -> Option<&Buffer> {
        match self.places[value.0 as usize] {
            Place::Slot(slot) => self.slots.get(slot),
            Place::Own => self.own.get(&value),
            Place::State(state) => self.states.get(&state).map(Arc::as_ref),
            Place::Weight => self.weights.get(&value)?.plane(0, part),
            Place::Nowhere => None,
        }
    }

    /// A further plane of a weight.
    fn plane(&self, value: Value, plane: usize, part: usize) -> Option<&Buffer> {
        self.weights.get(&value)?.plane(plane, part)
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
        let start = Instant::now();
        let gpu = weights.gpu().clone();
        let narrowed = narrow(&graph, capacity, gpu.caps(), weights.policy())?;
        let graph = narrowed.map_or(graph, Arc::new);
        let choices = choose_kernels(&graph, Some(&gpu), gpu.caps(), capacity, weights.policy())?;
        weights.note(choices.iter().flat_map(|choice| choice.picks.iter().cloned()));
        let scratch: Vec<_> = choices.iter().map(|choice| choice.scratch).collect();
        let plan = Plan::with_scratch(
            &graph,
            capacity,
            gpu.caps().max_binding,
            options.keep_all,
            &scratch,
        )?;
        // Neither needs the other, and each waits for something else.
        let (compiled, compile_time) = std::thread::scope(|scope| {
            let compiling = scope.spawn(|| {
                let start = Instant::now();
                (compile(&graph, &gpu, capacity, &choices), start.elapsed())
            });
            let loaded = weights.load(&graph.weights(), progress);
            let (compiled, time) = compiling.join().unwrap_or_else(|e| resume_unwind(e));
            compiled.and_then(|compiled| loaded.map(|()| (compiled, time)))
        })?;
        let states = options.states.clone().unwrap_or_default();
        let buffers = allocate(&graph, &gpu, &plan, weights, &states)?;
        let mut steps = Vec::with_capacity(graph.nodes.len());
        let nodes = graph.nodes.iter().zip(compiled).zip(choices);
        for (index, ((node, compiled), choices)) in nodes.enumerate() {
            let bind = |kernel| bind(&gpu, index, node, &buffers, kernel);
            let candidates = compiled.into_iter().map(bind).collect::<Result<_>>();
            let candidates = candidates.map_err(|e| e.in_layer(&node.layer))?;
            let symbols = graph.symbols_of(node);
            steps.push(Step {
                candidates,
                scratch: choices.scratch,
                tuned: choices.tuned,
                symbols,
            });
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
        weights.took(start.elapsed(), compile_time);
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

    /// The graph, [narrowed](narrow) for the device.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Dispatches of one step at these sizes.
    pub fn dispatches(&self, sizes: &Sizes) -> Result<usize> {
        self.with_dispatches(sizes, |all| all.iter().map(|work| work.dispatches.len()).sum())
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
                let take = rest.iter().take_while(|work| {
                    flops += work.flops;
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

    /// Records the work of the nodes from index `first` on.
    pub(super) fn replay(&self, pass: &mut Pass<'_>, works: &[Work], first: usize) {
        for (step, work) in self.steps[first..].iter().zip(works) {
            step.candidates[work.candidate].record(pass, &work.dispatches);
        }
    }

    /// Calls `use_them` with what every node records at these sizes.
    pub(super) fn with_dispatches<T>(
        &self,
        sizes: &Sizes,
        use_them: impl FnOnce(&[Work]) -> T,
    ) -> Result<T> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let Prepared { sizes: last, nodes, metas } = &mut *prepared;
        if *last != Some(*sizes) {
            // Until all is done, nothing that is held belongs to any sizes.
            let changed = last.take().map_or(u32::MAX, |last| self.graph.changed(&last, sizes));
            nodes.resize_with(self.steps.len(), Work::default);
            for ((node, step), work) in self.graph.nodes.iter().zip(&self.steps).zip(&mut *nodes) {
                if changed == u32::MAX || step.symbols & changed != 0 {
                    self.prepare(node, step, sizes, metas, work)?;
                }
            }
            *last = Some(*sizes);
        }
        Ok(use_them(nodes))
    }

    fn prepare(
        &self,
        node: &Node,
        step: &Step,
        sizes: &Sizes,
        metas: &mut Metas,
        work: &mut Work,
    ) -> Result<()> {
        metas.set(&self.graph, node, sizes)?;
        let call = metas.call(node, sizes, self.gpu.caps());
        let usable = |launch: &&Launch| {
            let kernel = launch.kernel();
            kernel.takes(&call) && kernel.scratch(&call).is_ok_and(|bytes| bytes <= step.scratch)
        };
        let bucket = self.graph.bucket(step.symbols, sizes);
        let tuned = step.tuned.iter().find(|(known, _)| *known == bucket);
        let tuned = tuned.and_then(|&(_, i)| Some((i, step.candidates.get(i)?)));
        let rank = |launch: &Launch| launch.kernel().rank(&call);
        let found = step.candidates.iter().enumerate().filter(|(_, launch)| usable(launch));
        let best = tuned
            .filter(|(_, launch)| usable(launch))
            .or_else(|| found.min_by(|(_, a), (_, b)| rank(a).total_cmp(&rank(b))));
        let (index, launch) = best.ok_or_else(|| {
            Error::op(node.op.name(), "no compiled kernel takes these sizes").in_layer(&node.layer)
        })?;
        work.candidate = index;
        work.flops = node.op.cost(&call).flops;
        launch.prepare(&call, &mut work.dispatches)
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
        scratch: plan.scratch.clone(),
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
    index: usize,
    node: &Node,
    buffers: &Buffers,
    compiled: Compiled,
) -> Result<Launch> {
    let split = node.op.splittable().and_then(|i| node.inputs.get(i).copied().flatten());
    let ranges: Vec<_> = match split.and_then(|v| buffers.weights.get(&v)) {
        Some(weight) => weight.parts.iter().map(|(range, _)| *range).collect(),
        None => vec![None],
    };
    compiled.bind(gpu, &*node.op, &ranges, |slot, part| match slot {
        Slot::Input(i) => buffers.of(node.inputs.get(i).copied().flatten()?, part),
        Slot::Plane(i, plane) => buffers.plane(node.inputs.get(i).copied().flatten()?, plane, part),
        Slot::Output(o) => buffers.of(*node.outputs.get(o)?, 0),
        Slot::Scratch => buffers.slots.get(*buffers.scratch.get(index)?.as_ref()?),
    })
}
