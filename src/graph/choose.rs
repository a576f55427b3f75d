//! Which kernels a session may run, chosen and compiled ahead: a step compiles nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::node::{Graph, Node, Value};
use super::policy::{Policy, PrecisionMode, Tune};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Pipeline, Spec};
use crate::ops::{
    Call, Compiled, Cost, Kernel, Pick, Precision, Stage, candidates, certify, choose, class_of,
    fastest,
};
use crate::tensor::{DType, Dim, MAX_SYMS, Meta, Sizes, Sym};

/// Operand and result shapes of a node at some sizes; reused, so that a step allocates nothing.
#[derive(Default)]
pub(super) struct Metas {
    inputs: Vec<Option<Meta>>,
    outputs: Vec<Meta>,
}

impl Metas {
    /// The shapes at these sizes.
    pub fn of(graph: &Graph, node: &Node, sizes: &Sizes) -> Result<Self> {
        let mut metas = Self::default();
        metas.set(graph, node, sizes)?;
        Ok(metas)
    }

    /// Replaces what was held by the shapes at these sizes.
    pub fn set(&mut self, graph: &Graph, node: &Node, sizes: &Sizes) -> Result<()> {
        let eval = |v: &Value| graph.meta(*v).eval(sizes);
        self.inputs.clear();
        self.outputs.clear();
        for value in &node.inputs {
            self.inputs.push(value.as_ref().map(eval).transpose()?);
        }
        for value in &node.outputs {
            self.outputs.push(eval(value)?);
        }
        Ok(())
    }

    /// The node's call with these shapes.
    pub fn call<'a>(&'a self, node: &'a Node, sizes: &'a Sizes, caps: &'a Caps) -> Call<'a> {
        let (inputs, outputs) = (&self.inputs, &self.outputs);
        Call { op: &*node.op, inputs, outputs, sizes, caps, part: None }
    }
}

impl Graph {
    /// The symbols that a node's shapes and attributes refer to, one bit each.
    pub(super) fn symbols_of(&self, node: &Node) -> u32 {
        let values = node.inputs.iter().flatten().chain(&node.outputs);
        let shapes = values.flat_map(|v| self.meta(*v).dims.iter().copied());
        let bit = |dim| match dim {
            Dim::Sym(sym) => 1 << sym.0,
            Dim::Const(_) => 0,
        };
        shapes.chain(node.op.dims()).map(bit).fold(0, |all, bit| all | bit)
    }

    /// The symbols whose values differ, one bit each.
    pub(super) fn changed(&self, from: &Sizes, to: &Sizes) -> u32 {
        let differs = |i: &usize| from.get(Sym(*i as u8)) != to.get(Sym(*i as u8));
        (0..self.symbols.len()).filter(differs).fold(0, |all, i| all | 1 << i)
    }

    /// Arithmetic of all nodes at these sizes, and the bytes that each must move.
    pub fn cost(&self, sizes: &Sizes) -> Result<Cost> {
        let caps = Caps::baseline();
        let mut total = Cost::default();
        for node in &self.nodes {
            let metas = Metas::of(self, node, sizes)?;
            let cost = node.op.cost(&metas.call(node, sizes, &caps));
            total.flops += cost.flops;
            total.bytes += cost.bytes;
        }
        Ok(total)
    }
}

/// Sizes that are tried when the kernels of a session are chosen: every power of two up to the
/// capacity, for all symbols together and for each with the others at 1.
fn probes(graph: &Graph, capacity: Sizes) -> Vec<Sizes> {
    let syms: Vec<_> = (0..graph.symbols.len()).map(|i| Sym(i as u8)).collect();
    let mut out = vec![capacity];
    for shift in 0..usize::BITS {
        let capped = |s| capacity.get(s).min(1 << shift);
        if syms.iter().all(|&s| capacity.get(s) < 1 << shift >> 1) {
            break;
        }
        let all = syms.iter().fold(capacity, |sizes, &s| sizes.with(s, capped(s)));
        out.push(all);
        for &one in &syms {
            let ones =
                syms.iter().fold(capacity, |sizes, &s| sizes.with(s, capacity.get(s).min(1)));
            out.push(ones.with(one, capped(one)));
        }
    }
    out
}

/// What a session may run of one node.
#[derive(Clone)]
pub(super) struct Choices {
    /// The kernels that some step within the capacity would choose.
    pub kernels: Vec<&'static dyn Kernel>,
    /// Scratch bytes that the hungriest of them needs at any of the sizes tried.
    pub scratch: usize,
    /// What tuning found, as (bucket, index into `kernels`): see [`Graph::bucket`].
    pub tuned: Vec<(Bucket, usize)>,
    /// The same for people.
    pub picks: Vec<Pick>,
}

/// The power of two above each symbol's value, as its logarithm; 0 for symbols that do not matter.
pub(super) type Bucket = [u8; MAX_SYMS];

impl Graph {
    /// The bucket that these sizes fall into for a node that refers to `symbols` (one bit each).
    pub(super) fn bucket(&self, symbols: u32, sizes: &Sizes) -> Bucket {
        let mut bucket = [0; MAX_SYMS];
        for (i, log) in bucket.iter_mut().enumerate().take(self.symbols.len()) {
            if symbols & 1 << i != 0 {
                *log = sizes.get(Sym(i as u8)).next_power_of_two().trailing_zeros() as u8;
            }
        }
        bucket
    }
}

/// The choices of every node. With a device, kernels are certified on it first, and timed where
/// the policy says so.
pub(super) fn choose_kernels(
    graph: &Graph,
    gpu: Option<&Gpu>,
    caps: &Caps,
    capacity: Sizes,
    policy: &Policy,
) -> Result<Vec<Choices>> {
    check(policy, graph)?;
    let probes = probes(graph, capacity);
    let deadline = match policy.tune {
        Tune::Quick => Some(Instant::now() + QUICK),
        _ => None,
    };
    let precision = precision(policy.precision, graph, caps);
    let chooser = Chooser { graph, gpu, caps, probes, policy, precision, deadline };
    // Layers repeat: equal nodes are decided once.
    let mut known: HashMap<String, Choices> = HashMap::new();
    let mut all = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let metas = node.inputs.iter().map(|v| v.map(|v| graph.meta(v)));
        let metas: Vec<_> =
            metas.chain(node.outputs.iter().map(|v| Some(graph.meta(*v)))).collect();
        let key = format!("{:?} {metas:?}", node.op);
        if let Some(choices) = known.get(&key) {
            all.push(choices.clone());
            continue;
        }
        let choices = chooser.node(node).map_err(|e| e.in_layer(&node.layer))?;
        // Said once, not once per layer.
        known.insert(key, Choices { picks: Vec::new(), ..choices.clone() });
        all.push(choices);
    }
    Ok(all)
}

/// Errors when a forced kernel does not exist, or no node of the graph is of its op: most likely a
/// typo.
fn check(policy: &Policy, graph: &Graph) -> Result<()> {
    for (op, kernel) in &policy.force {
        let node = graph.nodes.iter().find(|node| node.op.name() == op).ok_or_else(|| {
            let mut used: Vec<_> = graph.nodes.iter().map(|node| node.op.name()).collect();
            used.sort_unstable();
            used.dedup();
            let used = used.join(", ");
            Error::Argument(format!("no op of this model is named `{op}`; there are {used}"))
        })?;
        let known = node.op.entry().kernels;
        if !known.iter().any(|k| k.name() == kernel) {
            let known: Vec<_> = known.iter().map(|k| k.name()).collect();
            let known = known.join(", ");
            return Err(Error::op(
                node.op.name(),
                format!("no variant is named `{kernel}`; there are {known}"),
            ));
        }
    }
    Ok(())
}

/// What a mode means for this graph on such a device.
pub(super) fn precision(mode: PrecisionMode, graph: &Graph, caps: &Caps) -> Precision {
    let halves = || {
        let metas = graph.weights().into_iter().map(|w| w.meta());
        let mut matrices = metas.filter(|m| m.shape.rank() > 1).peekable();
        matrices.peek().is_some() && matrices.all(|m| matches!(m.dtype, DType::F16 | DType::BF16))
    };
    match mode {
        PrecisionMode::Exact => Precision::Exact,
        PrecisionMode::Fast => Precision::Fast,
        PrecisionMode::Auto if caps.fragment().is_some() && halves() => Precision::Fast,
        PrecisionMode::Auto => Precision::Exact,
    }
}

/// Time for the timings of one session under [`Tune::Quick`].
const QUICK: Duration = Duration::from_secs(2);

struct Chooser<'a> {
    graph: &'a Graph,
    gpu: Option<&'a Gpu>,
    caps: &'a Caps,
    /// The capacity first.
    probes: Vec<Sizes>,
    policy: &'a Policy,
    precision: Precision,
    deadline: Option<Instant>,
}

impl Chooser<'_> {
    fn node(&self, node: &Node) -> Result<Choices> {
        let forced = self.policy.forced(node.op.name());
        let mut choices =
            Choices { kernels: Vec::new(), scratch: 0, tuned: Vec::new(), picks: Vec::new() };
        let mut classes: HashMap<(&'static str, Vec<Spec>), bool> = HashMap::new();
        let symbols = self.graph.symbols_of(node);
        for sizes in &self.probes {
            let metas = Metas::of(self.graph, node, sizes)?;
            let call = metas.call(node, sizes, self.caps);
            let mut certified =
                |kernel: &'static dyn Kernel| self.certified(&mut classes, kernel, &call);
            let chosen = choose(&call, self.precision, forced, &mut certified)?;
            let index = choices.add(chosen);
            if forced.is_some() || !self.tunes(sizes) {
                continue;
            }
            let bucket = self.graph.bucket(symbols, sizes);
            if choices.tuned.iter().any(|(known, _)| *known == bucket) {
                continue;
            }
            let Some(gpu) = self.gpu else { continue };
            let mut all = candidates(&call, self.precision);
            let mut failed = None;
            all.retain(|kernel| match certified(*kernel) {
                Ok(good) => good,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            if let Some(pick) = fastest(gpu, &call, &all, self.deadline)? {
                let index = choices.add(pick.kernel);
                choices.tuned.push((bucket, index));
                choices.picks.push(pick);
            } else {
                choices.tuned.push((bucket, index));
            }
        }
        self.add_general(node, &mut classes, &mut choices)?;
        for sizes in &self.probes {
            let metas = Metas::of(self.graph, node, sizes)?;
            let call = metas.call(node, sizes, self.caps);
            for kernel in choices.kernels.iter().filter(|kernel| kernel.takes(&call)) {
                choices.scratch = choices.scratch.max(kernel.scratch(&call)?);
            }
        }
        Ok(choices)
    }

    /// Whether the policy has kernels timed at these sizes.
    fn tunes(&self, sizes: &Sizes) -> bool {
        match self.policy.tune {
            Tune::Off => false,
            Tune::Full => true,
            Tune::Quick => {
                let ends = self.probes.first() == Some(sizes) || self.is_least(sizes);
                !self.caps.software && ends
            }
        }
    }

    /// Whether every symbol is 1 or less, as in a decoding step of one sequence.
    fn is_least(&self, sizes: &Sizes) -> bool {
        (0..self.graph.symbols.len()).all(|i| sizes.get(Sym(i as u8)) <= 1)
    }

    fn certified(
        &self,
        classes: &mut HashMap<(&'static str, Vec<Spec>), bool>,
        kernel: &'static dyn Kernel,
        call: &Call<'_>,
    ) -> Result<bool> {
        let Some(gpu) = self.gpu else { return Ok(true) };
        let key = (kernel.name(), class_of(kernel, call)?);
        if let Some(&good) = classes.get(&key) {
            return Ok(good);
        }
        let good = certify(gpu, kernel, call)?.is_none();
        classes.insert(key, good);
        Ok(good)
    }

    /// Sizes between those tried may fit none of the kernels chosen for them, since what a kernel
    /// fits need not be an interval. One that fits everywhere must be among them, where there is
    /// one.
    fn add_general(
        &self,
        node: &Node,
        classes: &mut HashMap<(&'static str, Vec<Spec>), bool>,
        choices: &mut Choices,
    ) -> Result<()> {
        let fits_all = |kernel: &&'static dyn Kernel| {
            self.probes.iter().all(|sizes| {
                let metas = Metas::of(self.graph, node, sizes);
                metas.is_ok_and(|metas| kernel.takes(&metas.call(node, sizes, self.caps)))
            })
        };
        let Some(first) = self.probes.first() else { return Ok(()) };
        if choices.kernels.iter().any(fits_all) {
            return Ok(());
        }
        let metas = Metas::of(self.graph, node, first)?;
        let call = metas.call(node, first, self.caps);
        for kernel in candidates(&call, self.precision).into_iter().filter(fits_all) {
            if self.certified(classes, kernel, &call)? {
                choices.add(kernel);
                break;
            }
        }
        Ok(())
    }
}

impl Choices {
    /// The index of a kernel, added if it is not there yet.
    fn add(&mut self, kernel: &'static dyn Kernel) -> usize {
        self.kernels.iter().position(|k| *k == kernel).unwrap_or_else(|| {
            self.kernels.push(kernel);
            self.kernels.len() - 1
        })
    }
}

/// Compiles all kernels, in parallel; equal variants are compiled once.
pub(super) fn compile(
    graph: &Graph,
    gpu: &Gpu,
    capacity: Sizes,
    choices: &[Choices],
) -> Result<Vec<Vec<Compiled>>> {
    let mut wanted = Vec::new();
    for (node, choices) in graph.nodes.iter().zip(choices) {
        let metas = Metas::of(graph, node, &capacity)?;
        let call = metas.call(node, &capacity, gpu.caps());
        for kernel in &choices.kernels {
            for (i, stage) in kernel.stages().iter().enumerate() {
                let variant = (stage, kernel.spec(i, &call)?);
                let known = |(s, spec): &(&Stage, _)| {
                    s.source.name == stage.source.name && *spec == variant.1
                };
                if !wanted.iter().any(known) {
                    wanted.push(variant);
                }
            }
        }
    }
    let compile = |(stage, spec): &(&Stage, _)| -> Result<Arc<Pipeline>> {
        gpu.pipeline(stage.source, spec, stage.params, stage.trusted)
    };
    wanted.par_iter().try_for_each(|variant| compile(variant).map(drop))?;
    let node = |(node, choices): (&Node, &Choices)| {
        let metas = Metas::of(graph, node, &capacity)?;
        let call = metas.call(node, &capacity, gpu.caps());
        choices.kernels.iter().map(|kernel| Compiled::new(gpu, *kernel, &call)).collect()
    };
    graph.nodes.iter().zip(choices).map(node).collect()
}
