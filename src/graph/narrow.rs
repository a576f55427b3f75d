//! Values that only feed products, stored in f16: half the bytes to write, to keep and to read.

use std::collections::HashMap;

use super::choose::{Metas, precision};
use super::node::{Graph, Node, Value};
use super::policy::Policy;
use crate::error::Result;
use crate::gpu::Caps;
use crate::ops::{Kernel, Precision, choose};
use crate::tensor::{DType, Sizes};

/// The graph as a session of this capacity runs it on such a device, with values stored in f16: where
/// the policy lets digits be lost and the device has f16. `None` where it runs as it is.
///
/// Those are the results that can be [stored so](crate::ops::Op::stores_f16), that only operands read that can be
/// [read so](crate::ops::Op::reads_f16), and that are no results of the graph: norms' and activations' that go
/// into products, and attention's. What layers add up to is read by more than products and stays f32,
/// as the sums in every kernel do. A value also stays f32 where a node would lose its kernel by it at
/// this capacity.
pub fn narrow(
    graph: &Graph,
    capacity: Sizes,
    caps: &Caps,
    policy: &Policy,
) -> Result<Option<Graph>> {
    let precision = precision(policy.precision, graph, caps);
    if !caps.f16 || precision == Precision::Exact {
        return Ok(None);
    }
    let kernels = |graph: &Graph, nodes: &[usize]| {
        let kernel =
            |&at: &usize| kernel(graph, &graph.nodes[at], &capacity, caps, policy, precision);
        nodes.iter().map(kernel).collect::<Result<Vec<_>>>()
    };
    let (mut narrowed, mut any) = (graph.clone(), false);
    for (value, nodes) in feeds_products(graph) {
        let before = kernels(&narrowed, &nodes)?;
        narrowed.values[value.0 as usize].meta.dtype = DType::F16;
        if kernels(&narrowed, &nodes)? == before {
            any = true;
        } else {
            narrowed.values[value.0 as usize].meta.dtype = DType::F32;
        }
    }
    Ok(any.then_some(narrowed))
}

impl Graph {
    /// Whether a node stores a result in f16 that is f32 by its op's own rule.
    pub fn narrows(&self, node: &Node) -> bool {
        let narrowed = |(o, value): (usize, &Value)| {
            self.meta(*value).dtype == DType::F16 && node.op.stores_f16(o)
        };
        node.outputs.iter().enumerate().any(narrowed)
    }
}

/// The values that can be in f16 where they are made and where they are read, with those nodes.
fn feeds_products(graph: &Graph) -> Vec<(Value, Vec<usize>)> {
    let mut reads: HashMap<Value, Vec<(usize, usize)>> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        for (i, value) in node.inputs.iter().enumerate() {
            if let Some(value) = value {
                reads.entry(*value).or_default().push((at, i));
            }
        }
    }
    let mut found = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        for (o, value) in node.outputs.iter().enumerate() {
            let Some(reads) = reads.get(value) else { continue };
            let readable = reads.iter().all(|&(at, i)| graph.nodes[at].op.reads_f16(i));
            let given_out = graph.outputs.iter().any(|(_, v)| v == value);
            let wide = graph.meta(*value).dtype == DType::F32;
            if node.op.stores_f16(o) && readable && wide && !given_out {
                found.push((*value, [at].into_iter().chain(reads.iter().map(|r| r.0)).collect()));
            }
        }
    }
    found
}

/// The kernel that a node runs at these sizes, as far as it does not depend on the driver; `None`
/// where none takes them.
fn kernel(
    graph: &Graph,
    node: &Node,
    sizes: &Sizes,
    caps: &Caps,
    policy: &Policy,
    precision: Precision,
) -> Result<Option<&'static dyn Kernel>> {
    let metas = Metas::of(graph, node, sizes)?;
    let call = metas.call(node, sizes, caps);
    Ok(choose(&call, precision, policy.forced(node.op.name()), |_| Ok(true)).ok())
}
