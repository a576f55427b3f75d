//! Rewrites that save dispatches and memory traffic without changing what is computed.
//!
//! Each rewrite is one function and can be switched off by name. They run in the order of
//! [`Fusion::ALL`], each until it finds nothing more.

mod rotary;

use std::collections::HashSet;
use std::sync::Arc;

use super::node::{Graph, Node, Source, Value, ValueInfo};
use super::weight::Weight;
use crate::error::Result;
use crate::ops::{Activate, Activation, Add, Gated, LayerNorm, Layout, Matmul, Op, RmsNorm};
use rotary::{norm_rope_append, rope_append, rope_pair};

/// A rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fusion {
    /// `matmul` then `add` of a vector: the vector becomes the matmul's bias.
    Bias,
    /// `matmul` then an activation: applied in the matmul's epilogue.
    Activation,
    /// Query, key and value projections of one input, whose heads are normalised and rotated, and both
    /// caches: one matmul and one pass.
    NormRopeAppend,
    /// Query, key and value projections of one input: one matmul with stacked weights, whose
    /// columns are read in place by attention, rotations and caches.
    Qkv,
    /// Rotations of packed queries and keys, then both caches: one pass.
    RopeAppend,
    /// Rotations of queries and keys that lie side by side: one rotation.
    RopePair,
    /// Gate and up projections of one input: one matmul with stacked weights.
    GateUp,
    /// A packed projection then a gate: the gate is applied in the matmul's epilogue, whose weight
    /// has gates and what they scale in turn.
    Gated,
    /// `matmul` then `add` of a value of the same shape: added in the matmul's epilogue.
    Residual,
    /// `add` then a norm: the norm adds, and gives the sum too where it is used again.
    ResidualNorm,
}

impl Fusion {
    /// Every rewrite, in the order they run.
    pub const ALL: [Self; 10] = [
        Self::Bias,
        Self::Activation,
        Self::NormRopeAppend,
        Self::Qkv,
        Self::RopeAppend,
        Self::RopePair,
        Self::GateUp,
        Self::Gated,
        Self::Residual,
        Self::ResidualNorm,
    ];

    /// Name for messages and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bias => "bias",
            Self::Activation => "activation",
            Self::NormRopeAppend => "norm_rope_append",
            Self::Qkv => "qkv",
            Self::RopeAppend => "rope_append",
            Self::RopePair => "rope_pair",
            Self::GateUp => "gate_up",
            Self::Gated => "gated",
            Self::Residual => "residual",
            Self::ResidualNorm => "residual_norm",
        }
    }

    /// Tries to apply the rewrite at node `at`.
    fn apply(self, graph: &mut Rewrite, at: usize) -> Result<bool> {
        Ok(match self {
            Self::Bias => bias(graph, at),
            Self::Activation => activation(graph, at),
            Self::NormRopeAppend => return norm_rope_append(graph, at),
            Self::Qkv => return qkv(graph, at),
            Self::RopeAppend => rope_append(graph, at),
            Self::RopePair => rope_pair(graph, at),
            Self::GateUp => return gate_up(graph, at),
            Self::Gated => return gated(graph, at),
            Self::Residual => residual(graph, at),
            Self::ResidualNorm => residual_norm(graph, at),
        }
        .is_some())
    }
}

/// Applies every rewrite that is not in `off`, and takes out what nobody reads.
pub fn fuse(graph: Graph, off: &[Fusion]) -> Result<Graph> {
    let mut rewrite = Rewrite { nodes: graph.nodes.iter().cloned().map(Some).collect(), graph };
    for fusion in Fusion::ALL.into_iter().filter(|f| !off.contains(f)) {
        for at in 0..rewrite.nodes.len() {
            while rewrite.nodes[at].is_some() && fusion.apply(&mut rewrite, at)? {}
        }
    }
    drop_unread(&mut rewrite);
    let Rewrite { mut graph, nodes } = rewrite;
    graph.nodes = nodes.into_iter().flatten().collect();
    Ok(graph)
}

/// Takes out nodes whose results nobody reads, such as a step's positions where the model's are
/// relative. Those that write states stay.
fn drop_unread(rewrite: &mut Rewrite) {
    let mut read: HashSet<_> = rewrite.graph.outputs.iter().map(|(_, v)| *v).collect();
    for slot in rewrite.nodes.iter_mut().rev() {
        let Some(node) = slot else { continue };
        if node.op.in_place().is_empty() && node.outputs.iter().all(|v| !read.contains(v)) {
            *slot = None;
        } else {
            read.extend(node.inputs.iter().flatten());
        }
    }
}

/// A graph whose nodes can be taken out while positions stay.
struct Rewrite {
    graph: Graph,
    nodes: Vec<Option<Node>>,
}

const MATMUL_X: usize = 0;
const MATMUL_WEIGHT: usize = 1;
const MATMUL_BIAS: usize = 2;
const MATMUL_RESIDUAL: usize = 3;

impl Rewrite {
    fn op<T: Op>(&self, at: usize) -> Option<&T> {
        self.nodes.get(at)?.as_ref()?.op.downcast()
    }

    fn operand(&self, at: usize, i: usize) -> Option<Value> {
        self.nodes.get(at)?.as_ref()?.inputs.get(i).copied().flatten()
    }

    fn producer(&self, value: Value) -> Option<usize> {
        self.nodes.iter().position(|n| n.as_ref().is_some_and(|n| n.outputs.contains(&value)))
    }

    /// How often a value is read, by nodes or as a result of the graph.
    fn uses(&self, value: Value) -> usize {
        let reads = |n: &Node| n.inputs.iter().flatten().filter(|v| **v == value).count();
        let nodes: usize = self.nodes.iter().flatten().map(reads).sum();
        nodes + self.graph.outputs.iter().filter(|(_, v)| *v == value).count()
    }

    /// The node that makes `value` with an op of type `T`, if nothing else reads it.
    fn sole<T: Op>(&self, value: Value) -> Option<usize> {
        let at = self.producer(value)?;
        (self.op::<T>(at).is_some() && self.uses(value) == 1).then_some(at)
    }

    fn fresh(&mut self, like: Value, last: usize) -> Value {
        let meta = self.graph.meta(like).clone().with_last(last);
        self.graph.values.push(ValueInfo { source: Source::Node, meta });
        Value(self.graph.values.len() as u32 - 1)
    }

    /// Moves the matmul at `from` to position `to`, whose node it replaces, with an operand
    /// added. Later nodes keep reading the replaced node's result.
    fn absorb(&mut self, from: usize, to: usize, op: Matmul, operand: Option<(usize, Value)>) {
        let (Some(mut node), Some(replaced)) = (self.nodes[from].take(), self.nodes[to].take())
        else {
            return;
        };
        node.inputs.resize(MATMUL_RESIDUAL + 1, None);
        if let Some((i, value)) = operand {
            node.inputs[i] = Some(value);
        }
        node.op = Arc::new(op);
        node.outputs = replaced.outputs;
        self.nodes[to] = Some(node);
    }
}

fn bias(graph: &mut Rewrite, at: usize) -> Option<()> {
    graph.op::<Add>(at)?;
    let (x, b) = (graph.operand(at, 0)?, graph.operand(at, 1)?);
    let from = graph.sole::<Matmul>(x)?;
    let op = graph.op::<Matmul>(from)?.clone();
    let vector = graph.graph.as_weight(b)?.meta().shape.rank() == 1;
    let free = op.activation == Activation::None
        && graph.operand(from, MATMUL_BIAS).is_none()
        && graph.operand(from, MATMUL_RESIDUAL).is_none();
    (vector && free).then(|| graph.absorb(from, at, op, Some((MATMUL_BIAS, b))))
}

fn activation(graph: &mut Rewrite, at: usize) -> Option<()> {
    let activation = graph.op::<Activate>(at)?.activation;
    let from = graph.sole::<Matmul>(graph.operand(at, 0)?)?;
    let op = graph.op::<Matmul>(from)?.clone();
    let free = op.activation == Activation::None && graph.operand(from, MATMUL_RESIDUAL).is_none();
    free.then(|| graph.absorb(from, at, Matmul { activation, ..op }, None))
}

fn residual(graph: &mut Rewrite, at: usize) -> Option<()> {
    graph.op::<Add>(at)?;
    let (a, b) = (graph.operand(at, 0)?, graph.operand(at, 1)?);
    if graph.graph.meta(a) != graph.graph.meta(b) || a == b {
        return None;
    }
    let free = |x: Value| {
        let from = graph.sole::<Matmul>(x)?;
        let free =
            graph.operand(from, MATMUL_RESIDUAL).is_none() && !graph.op::<Matmul>(from)?.gated;
        free.then_some(from)
    };
    let (from, other) = match (free(a), free(b)) {
        (Some(from), _) => (from, b),
        (None, Some(from)) => (from, a),
        (None, None) => return None,
    };
    let op = graph.op::<Matmul>(from)?.clone();
    graph.absorb(from, at, op, Some((MATMUL_RESIDUAL, other)));
    Some(())
}

fn residual_norm(graph: &mut Rewrite, at: usize) -> Option<()> {
    let layer = graph.op::<LayerNorm>(at).cloned();
    let rms = graph.op::<RmsNorm>(at).cloned();
    if layer.is_none() && rms.is_none() || graph.operand(at, 1).is_some() {
        return None;
    }
    let x = graph.operand(at, 0)?;
    let from = graph.producer(x)?;
    graph.op::<Add>(from)?;
    let (a, b) = (graph.operand(from, 0)?, graph.operand(from, 1)?);
    if graph.graph.meta(a) != graph.graph.meta(b) {
        return None;
    }
    let with_sum = graph.uses(x) > 1;
    let op: Arc<dyn Op> = match (layer, rms) {
        (Some(op), _) => Arc::new(LayerNorm { with_sum, ..op }),
        (_, Some(op)) => Arc::new(RmsNorm { with_sum, ..op }),
        _ => return None,
    };
    let mut node = graph.nodes[at].take()?;
    node.op = op;
    node.inputs[0] = Some(a);
    node.inputs[1] = Some(b);
    if with_sum {
        node.outputs.push(x);
    }
    // At the add's place: everything between may read the sum.
    graph.nodes[from] = Some(node);
    Some(())
}

/// A matmul with a constant weight and nothing in its epilogue but a constant bias.
struct Projection {
    at: usize,
    x: Value,
    weight: Weight,
    bias: Option<Weight>,
}

impl Projection {
    /// Whether both can be one matmul with stacked weights.
    fn stacks_on(&self, other: &Self) -> bool {
        self.x == other.x
            && self.weight.meta().dtype == other.weight.meta().dtype
            && self.weight.meta().shape.last() == other.weight.meta().shape.last()
            && self.bias.is_some() == other.bias.is_some()
    }
}

impl Rewrite {
    fn projection(&self, value: Value) -> Option<Projection> {
        let at = self.sole::<Matmul>(value)?;
        let op = self.op::<Matmul>(at)?;
        let plain = op.layout == Layout::Nt
            && op.activation == Activation::None
            && self.operand(at, MATMUL_RESIDUAL).is_none();
        let weight = self.graph.as_weight(self.operand(at, MATMUL_WEIGHT)?)?.clone();
        let bias = match self.operand(at, MATMUL_BIAS) {
            None => None,
            Some(value) => Some(self.graph.as_weight(value)?.clone()),
        };
        let x = self.operand(at, MATMUL_X)?;
        (plain && weight.meta().shape.rank() == 2).then_some(Projection { at, x, weight, bias })
    }

    /// Makes operand `i` of a node read `value` at a column, where it allows that.
    fn read_at(&mut self, reader: usize, i: usize, value: Value, column: usize) {
        if let Some(node) = &mut self.nodes[reader]
            && let Some(op) = node.op.at_column(i, column)
        {
            node.op = op;
            node.inputs[i] = Some(value);
        }
    }

    /// Replaces projections of one input by one matmul; gives its result and the first column
    /// of each projection in it, or `None` when they differ in input, dtype or bias.
    fn stack(&mut self, parts: &[Projection]) -> Result<Option<(Value, Vec<usize>)>> {
        let Some(first) = parts.first() else { return Ok(None) };
        if !parts.iter().all(|p| p.stacks_on(first)) {
            return Ok(None);
        }
        let weight = Weight::stack(&parts.iter().map(|p| &p.weight).collect::<Vec<_>>())?;
        let biases: Vec<_> = parts.iter().filter_map(|p| p.bias.as_ref()).collect();
        let bias = if biases.is_empty() { None } else { Some(Weight::stack(&biases)?) };
        let mut columns = vec![0];
        for part in parts {
            columns.push(columns[columns.len() - 1] + part.weight.meta().shape.dims()[0]);
        }
        let total = columns.pop().unwrap_or(0);
        let out = self.fresh(first.x, total);
        let (weight, bias) = (self.graph.weight(weight), bias.map(|b| self.graph.weight(b)));
        let place = parts.iter().map(|p| p.at).min().unwrap_or(first.at);
        let layer = self.nodes[first.at].as_ref().map(|n| n.layer.clone()).unwrap_or_default();
        for part in parts {
            self.nodes[part.at] = None;
        }
        self.nodes[place] = Some(Node {
            op: Arc::new(Matmul::linear()),
            inputs: vec![Some(first.x), Some(weight), bias, None],
            outputs: vec![out],
            layer,
        });
        Ok(Some((out, columns)))
    }
}

/// The node that reads a value, and as which operand, if it is the only reader.
fn sole_reader(graph: &Rewrite, value: Value) -> Option<(usize, usize)> {
    if graph.uses(value) != 1 {
        return None;
    }
    graph.nodes.iter().enumerate().find_map(|(at, node)| {
        let i = node.as_ref()?.inputs.iter().position(|v| *v == Some(value))?;
        Some((at, i))
    })
}

/// The result of a plain projection at `at` whose only reader can read it at a column.
fn readable_at_column(graph: &Rewrite, at: usize) -> Option<Value> {
    graph.op::<Matmul>(at)?;
    let value = graph.nodes[at].as_ref()?.outputs.first().copied()?;
    graph.projection(value)?;
    let (reader, i) = sole_reader(graph, value)?;
    graph.nodes[reader].as_ref()?.op.at_column(i, 0)?;
    Some(value)
}

fn qkv(graph: &mut Rewrite, at: usize) -> Result<bool> {
    let Some(first) = readable_at_column(graph, at) else { return Ok(false) };
    let (Some(like), Some(node)) = (graph.projection(first), graph.nodes[at].as_ref()) else {
        return Ok(false);
    };
    // Within a layer only: an encoder's result is projected by every layer of a decoder.
    let layer = node.layer.clone();
    let mut values = vec![first];
    for other in at + 1..graph.nodes.len() {
        if graph.nodes[other].as_ref().is_none_or(|n| n.layer != layer) {
            continue;
        }
        if let Some(value) = readable_at_column(graph, other)
            && graph.projection(value).is_some_and(|p| p.stacks_on(&like))
        {
            values.push(value);
        }
    }
    if values.len() < 2 {
        return Ok(false);
    }
    let readers: Vec<_> = values.iter().filter_map(|v| sole_reader(graph, *v)).collect();
    let parts: Vec<_> = values.iter().filter_map(|v| graph.projection(*v)).collect();
    let Some((packed, columns)) = graph.stack(&parts)? else { return Ok(false) };
    for ((reader, i), column) in readers.into_iter().zip(columns) {
        graph.read_at(reader, i, packed, column);
    }
    Ok(true)
}

fn gate_up(graph: &mut Rewrite, at: usize) -> Result<bool> {
    if graph.op::<Gated>(at).is_none() {
        return Ok(false);
    }
    let projections: Option<Vec<_>> =
        (0..2).map(|i| graph.operand(at, i).and_then(|value| graph.projection(value))).collect();
    let Some(parts) = projections else { return Ok(false) };
    let Some((value, _)) = graph.stack(&parts)? else { return Ok(false) };
    if let Some(node) = &mut graph.nodes[at] {
        // One packed operand, gate first.
        node.inputs = vec![Some(value), None];
    }
    Ok(true)
}

fn gated(graph: &mut Rewrite, at: usize) -> Result<bool> {
    let Some(activation) = graph.op::<Gated>(at).map(|op| op.activation) else { return Ok(false) };
    let (Some(packed), None) = (graph.operand(at, 0), graph.operand(at, 1)) else {
        return Ok(false);
    };
    let Some(Projection { at: from, x, weight, bias }) = graph.projection(packed) else {
        return Ok(false);
    };
    let weight = graph.graph.weight(weight.interleaved()?);
    let bias = match bias {
        None => None,
        Some(bias) => Some(graph.graph.weight(bias.interleaved()?)),
    };
    graph.nodes[from] = None;
    if let Some(node) = &mut graph.nodes[at] {
        node.op = Arc::new(Matmul { activation, gated: true, ..Matmul::linear() });
        node.inputs = vec![Some(x), Some(weight), bias, None];
    }
    Ok(true)
}
