//! Rewrites that move what follows a product into its epilogue, and sums into norms.

use std::sync::Arc;

use super::rewrite::{MATMUL_BIAS, MATMUL_RESIDUAL, Projection, Rewrite};
use crate::error::Result;
use crate::graph::node::Value;
use crate::ops::{Activate, Activation, Add, Gated, LayerNorm, Matmul, Op, RmsNorm};

pub(super) fn bias(graph: &mut Rewrite, at: usize) -> Option<()> {
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

pub(super) fn activation(graph: &mut Rewrite, at: usize) -> Option<()> {
    let activation = graph.op::<Activate>(at)?.activation;
    let from = graph.sole::<Matmul>(graph.operand(at, 0)?)?;
    let op = graph.op::<Matmul>(from)?.clone();
    let free = op.activation == Activation::None && graph.operand(from, MATMUL_RESIDUAL).is_none();
    free.then(|| graph.absorb(from, at, Matmul { activation, ..op }, None))
}

pub(super) fn residual(graph: &mut Rewrite, at: usize) -> Option<()> {
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

pub(super) fn residual_norm(graph: &mut Rewrite, at: usize) -> Option<()> {
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

pub(super) fn gated(graph: &mut Rewrite, at: usize) -> Result<bool> {
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
