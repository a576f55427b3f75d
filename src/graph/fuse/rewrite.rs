//! A graph while it is rewritten, and what rewrites ask of it.

use std::sync::Arc;

use crate::error::Result;
use crate::graph::node::{Graph, Node, Source, Value, ValueInfo};
use crate::graph::weight::Weight;
use crate::ops::{Activation, Layout, Matmul, Op};

/// A graph whose nodes can be taken out while positions stay.
pub(super) struct Rewrite {
    pub graph: Graph,
    pub nodes: Vec<Option<Node>>,
}

pub(super) const MATMUL_X: usize = 0;
pub(super) const MATMUL_WEIGHT: usize = 1;
pub(super) const MATMUL_BIAS: usize = 2;
pub(super) const MATMUL_RESIDUAL: usize = 3;

impl Rewrite {
    pub(super) fn op<T: Op>(&self, at: usize) -> Option<&T> {
        self.nodes.get(at)?.as_ref()?.op.downcast()
    }

    pub(super) fn operand(&self, at: usize, i: usize) -> Option<Value> {
        self.nodes.get(at)?.as_ref()?.inputs.get(i).copied().flatten()
    }

    pub(super) fn producer(&self, value: Value) -> Option<usize> {
        self.nodes.iter().position(|n| n.as_ref().is_some_and(|n| n.outputs.contains(&value)))
    }

    /// How often a value is read, by nodes or as a result of the graph.
    pub(super) fn uses(&self, value: Value) -> usize {
        let reads = |n: &Node| n.inputs.iter().flatten().filter(|v| **v == value).count();
        let nodes: usize = self.nodes.iter().flatten().map(reads).sum();
        nodes + self.graph.outputs.iter().filter(|(_, v)| *v == value).count()
    }

    /// The node that makes `value` with an op of type `T`, if nothing else reads it.
    pub(super) fn sole<T: Op>(&self, value: Value) -> Option<usize> {
        let at = self.producer(value)?;
        (self.op::<T>(at).is_some() && self.uses(value) == 1).then_some(at)
    }

    pub(super) fn fresh(&mut self, like: Value, last: usize) -> Value {
        let meta = self.graph.meta(like).clone().with_last(last);
        self.graph.values.push(ValueInfo { source: Source::Node, meta });
        Value(self.graph.values.len() as u32 - 1)
    }

    /// Moves the matmul at `from` to position `to`, whose node it replaces, with an operand
    /// added. Later nodes keep reading the replaced node's result.
    pub(super) fn absorb(
        &mut self,
        from: usize,
        to: usize,
        op: Matmul,
        operand: Option<(usize, Value)>,
    ) {
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

/// A matmul with a constant weight and nothing in its epilogue but a constant bias.
pub(super) struct Projection {
    pub at: usize,
    pub x: Value,
    pub weight: Weight,
    pub bias: Option<Weight>,
}

impl Projection {
    /// Whether both can be one matmul with stacked weights.
    pub(super) fn stacks_on(&self, other: &Self) -> bool {
        self.x == other.x
            && self.weight.meta().dtype == other.weight.meta().dtype
            && self.weight.meta().shape.last() == other.weight.meta().shape.last()
            && self.bias.is_some() == other.bias.is_some()
    }
}

impl Rewrite {
    pub(super) fn projection(&self, value: Value) -> Option<Projection> {
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
    pub(super) fn read_at(&mut self, reader: usize, i: usize, value: Value, column: usize) {
        if let Some(node) = &mut self.nodes[reader]
            && let Some(op) = node.op.at_column(i, column)
        {
            node.op = op;
            node.inputs[i] = Some(value);
        }
    }

    /// Replaces projections of one input by one matmul; gives its result and the first column
    /// of each projection in it, or `None` when they differ in input, dtype or bias.
    pub(super) fn stack(&mut self, parts: &[Projection]) -> Result<Option<(Value, Vec<usize>)>> {
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
pub(super) fn sole_reader(graph: &Rewrite, value: Value) -> Option<(usize, usize)> {
    if graph.uses(value) != 1 {
        return None;
    }
    graph.nodes.iter().enumerate().find_map(|(at, node)| {
        let i = node.as_ref()?.inputs.iter().position(|v| *v == Some(value))?;
        Some((at, i))
    })
}
