//! Which kernels a session may run, chosen and compiled ahead: a step compiles nothing.

use std::sync::Arc;

use rayon::prelude::*;

use super::node::{Graph, Node, Value};
use super::options::SessionOptions;
use crate::error::Result;
use crate::gpu::{Caps, Gpu, Pipeline};
use crate::ops::{Call, Compiled, Cost, Kernel, candidates, certify, choose};
use crate::tensor::{Dim, Meta, Sizes, Sym};

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
pub(super) struct Choices {
    /// The kernels that some step within the capacity would choose.
    pub kernels: Vec<&'static dyn Kernel>,
    /// Scratch bytes that the hungriest of them needs at any of the sizes tried.
    pub scratch: usize,
}

/// The choices of every node. With a device, kernels are certified on it first.
pub(super) fn choose_kernels(
    graph: &Graph,
    gpu: Option<&Gpu>,
    caps: &Caps,
    capacity: Sizes,
    options: &SessionOptions,
) -> Result<Vec<Choices>> {
    let probes = probes(graph, capacity);
    graph
        .nodes
        .iter()
        .map(|node| {
            choose_node(graph, node, gpu, caps, &probes, options)
                .map_err(|e| e.in_layer(&node.layer))
        })
        .collect()
}

fn choose_node(
    graph: &Graph,
    node: &Node,
    gpu: Option<&Gpu>,
    caps: &Caps,
    probes: &[Sizes],
    options: &SessionOptions,
) -> Result<Choices> {
    let forced = options.force.iter().find(|(op, _)| op == node.op.name());
    let forced = forced.map(|(_, kernel)| kernel.as_str());
    let mut kernels: Vec<&'static dyn Kernel> = Vec::new();
    for sizes in probes {
        let metas = Metas::of(graph, node, sizes)?;
        let call = metas.call(node, sizes, caps);
        let certified = |kernel: &'static dyn Kernel| match gpu {
            Some(gpu) => Ok(certify(gpu, kernel, &call)?.is_none()),
            None => Ok(true),
        };
        let kernel = choose(&call, options.precision, forced, certified)?;
        if !kernels.contains(&kernel) {
            kernels.push(kernel);
        }
    }
    add_general(graph, node, gpu, caps, probes, options, &mut kernels)?;
    let mut scratch = 0;
    for sizes in probes {
        let metas = Metas::of(graph, node, sizes)?;
        let call = metas.call(node, sizes, caps);
        for kernel in kernels.iter().filter(|kernel| kernel.fits(&call)) {
            scratch = scratch.max(kernel.scratch(&call)?);
        }
    }
    Ok(Choices { kernels, scratch })
}

/// Sizes between those tried may fit none of the kernels chosen for them, since what a kernel
/// fits need not be an interval. One that fits everywhere must be among them, where there is one.
fn add_general(
    graph: &Graph,
    node: &Node,
    gpu: Option<&Gpu>,
    caps: &Caps,
    probes: &[Sizes],
    options: &SessionOptions,
    kernels: &mut Vec<&'static dyn Kernel>,
) -> Result<()> {
    let Some(first) = probes.first() else { return Ok(()) };
    let fits_all = |kernel: &&'static dyn Kernel| {
        probes.iter().all(|sizes| {
            let metas = Metas::of(graph, node, sizes);
            metas.is_ok_and(|metas| kernel.fits(&metas.call(node, sizes, caps)))
        })
    };
    if kernels.iter().any(|kernel| fits_all(kernel)) {
        return Ok(());
    }
    let metas = Metas::of(graph, node, first)?;
    let call = metas.call(node, first, caps);
    for kernel in candidates(&call, options.precision).into_iter().filter(fits_all) {
        let off = gpu.map(|gpu| certify(gpu, kernel, &call)).transpose()?.flatten();
        if off.is_none() {
            kernels.push(kernel);
            break;
        }
    }
    Ok(())
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
                let known = |(s, spec): &(&crate::ops::Stage, _)| {
                    s.source.name == stage.source.name && *spec == variant.1
                };
                if !wanted.iter().any(known) {
                    wanted.push(variant);
                }
            }
        }
    }
    let compile = |(stage, spec): &(&crate::ops::Stage, _)| -> Result<Arc<Pipeline>> {
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
