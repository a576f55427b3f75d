//! Which kernels a session may run, compiled ahead: a step compiles nothing.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::exec::SessionOptions;
use super::node::{Graph, Node, Value};
use crate::error::Result;
use crate::gpu::{Caps, Gpu, Pipeline};
use crate::ops::{Call, Cost, Kernel, certify, choose};
use crate::tensor::{Meta, Sizes, Sym};

/// Operand and result shapes of a node at these sizes.
pub(super) fn metas(
    graph: &Graph,
    node: &Node,
    sizes: &Sizes,
) -> Result<(Vec<Option<Meta>>, Vec<Meta>)> {
    let eval = |v: &Value| graph.meta(*v).eval(sizes);
    let inputs =
        node.inputs.iter().map(|v| v.as_ref().map(eval).transpose()).collect::<Result<_>>()?;
    Ok((inputs, node.outputs.iter().map(eval).collect::<Result<_>>()?))
}

impl Graph {
    /// Arithmetic of all nodes at these sizes, and the bytes that each must move.
    pub fn cost(&self, sizes: &Sizes) -> Result<Cost> {
        let caps = Caps::baseline();
        let mut total = Cost::default();
        for node in &self.nodes {
            let (inputs, outputs) = metas(self, node, sizes)?;
            let call = Call { inputs: &inputs, outputs: &outputs, sizes, caps: &caps, part: None };
            let cost = node.op.cost(&call);
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

/// For every node, the kernels that some step within the capacity would choose.
pub(super) fn choose_kernels(
    graph: &Graph,
    gpu: &Gpu,
    capacity: Sizes,
    options: &SessionOptions,
) -> Result<Vec<Vec<&'static Kernel>>> {
    let probes = probes(graph, capacity);
    let mut all = Vec::with_capacity(graph.nodes.len());
    let mut verdicts = HashMap::new();
    for node in &graph.nodes {
        let forced = options.force.iter().find(|(op, _)| op == node.op.name());
        let forced = forced.map(|(_, kernel)| kernel.as_str());
        let mut chosen: Vec<&'static Kernel> = Vec::new();
        for sizes in &probes {
            let (inputs, outputs) = metas(graph, node, sizes)?;
            let caps = gpu.caps();
            let call = Call { inputs: &inputs, outputs: &outputs, sizes, caps, part: None };
            let certified = |kernel: &'static Kernel| match verdicts.get(kernel.name) {
                Some(&good) => Ok(good),
                None => {
                    let good = certify(gpu, kernel)?.is_none();
                    verdicts.insert(kernel.name, good);
                    Ok(good)
                }
            };
            let kernel = choose(&*node.op, &call, forced, certified);
            let kernel = kernel.map_err(|e| e.in_layer(&node.layer))?;
            if !chosen.iter().any(|k| std::ptr::eq(*k, kernel)) {
                chosen.push(kernel);
            }
        }
        // Back in the table's order, which is the order of preference.
        chosen.sort_by_key(|k| node.op.kernels().iter().position(|t| std::ptr::eq(t, *k)));
        all.push(chosen);
    }
    Ok(all)
}

pub(super) type Compiled = Vec<(&'static Kernel, Arc<Pipeline>)>;

/// Compiles all kernels, in parallel; equal variants are compiled once.
pub(super) fn compile(
    graph: &Graph,
    gpu: &Gpu,
    capacity: Sizes,
    chosen: &[Vec<&'static Kernel>],
) -> Result<Vec<Compiled>> {
    let mut wanted = Vec::new();
    let mut specs = Vec::new();
    for (node, kernels) in graph.nodes.iter().zip(chosen) {
        let (inputs, outputs) = metas(graph, node, &capacity)?;
        let caps = gpu.caps();
        let call = Call { inputs: &inputs, outputs: &outputs, sizes: &capacity, caps, part: None };
        for kernel in kernels {
            let spec = node.op.spec(kernel, &call);
            if !wanted
                .iter()
                .any(|(k, s): &(&Kernel, _)| k.source.name == kernel.source.name && *s == spec)
            {
                wanted.push((*kernel, spec.clone()));
            }
            specs.push(spec);
        }
    }
    wanted.par_iter().try_for_each(|(kernel, spec)| {
        gpu.pipeline(kernel.source, spec, kernel.params, kernel.trusted).map(drop)
    })?;
    let mut specs = specs.into_iter();
    let lookup = |kernels: &Vec<&'static Kernel>| -> Result<Compiled> {
        kernels
            .iter()
            .zip(&mut specs)
            .map(|(kernel, spec)| {
                let trusted = kernel.trusted;
                Ok((*kernel, gpu.pipeline(kernel.source, &spec, kernel.params, trusted)?))
            })
            .collect()
    };
    chosen.iter().map(lookup).collect()
}
