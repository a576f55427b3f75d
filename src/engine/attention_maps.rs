//! Who attends to whom: every attention node's weights in one forward pass, of any family.
//!
//! Kernels fuse the softmax away, so the pass is run with its intermediates kept and each node's
//! operands are put through [`Attention::weights`] on the host.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::device::Device;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Progress, SessionOptions, Value};
use crate::ops::{Args, Attention};
use crate::tensor::{Dim, Sizes, Tensor};

/// Which tokens an attention node joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stack {
    /// The input's tokens attend to each other.
    Input,
    /// The decoder's tokens attend to each other, behind an encoder.
    Decoder,
    /// The decoder's tokens attend to the input's.
    Cross,
}

/// The weights of one attention node.
#[derive(Clone, Debug)]
pub struct AttentionMap {
    /// Which tokens it joins.
    pub stack: Stack,
    /// Its layer, named as in the checkpoint.
    pub layer: String,
    /// f32 [batch, heads, queries, keys]; a query's weights sum to 1, or are 0 if it sees no key.
    pub weights: Tensor,
}

/// Most weights of all nodes together: 256 MiB.
const MOST_WEIGHTS: usize = 1 << 26;

/// Runs a whole pass of `graph` and gives the weights of its attention nodes, in order.
///
/// Errors: those of a pass; more than 2^26 weights in all; a node over tokens of neither input.
pub fn attention_maps(
    graph: &Arc<Graph>,
    device: &Device,
    inputs: &[(&str, &Tensor)],
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Vec<AttentionMap>> {
    let sizes = graph.bind_sizes(inputs, Sizes::default())?;
    let stacks = stacks(graph, &sizes)?;
    let options = SessionOptions { keep_all: true, ..SessionOptions::default() };
    let session = device.session(graph, sizes, &options, progress)?;
    session.step(inputs, &sizes, Some(&[]))?;
    let mut maps = Vec::with_capacity(stacks.len());
    for (node, op) in nodes(graph) {
        let operand = |value: &Option<Value>| value.map(|v| session.value(v, &sizes)).transpose();
        let operands = node.inputs.iter().map(operand).collect::<Result<Vec<_>>>()?;
        let tensors: Vec<_> = operands.iter().map(Option::as_ref).collect();
        let args = Args { op: node.op.name(), tensors: &tensors, sizes: &sizes };
        maps.push(op.weights(&args).map_err(|e| e.in_layer(&node.layer))?);
    }
    let named = stacks.into_iter().zip(maps);
    Ok(named.map(|((stack, layer), weights)| AttentionMap { stack, layer, weights }).collect())
}

fn nodes(graph: &Graph) -> impl Iterator<Item = (&Node, &Attention)> {
    graph.nodes().iter().filter_map(|node| Some((node, node.op.downcast::<Attention>()?)))
}

/// Stack and layer of every attention node, told by which input's tokens its dimensions count.
fn stacks(graph: &Graph, sizes: &Sizes) -> Result<Vec<(Stack, String)>> {
    let tokens = |name: &str| -> Option<Dim> {
        let (.., meta) = graph.inputs().find(|(n, ..)| *n == name)?;
        meta.dims.get(1).copied()
    };
    let (input, decoder) = (tokens("input_ids"), tokens("decoder_input_ids"));
    let mut found = Vec::new();
    let mut total = 0usize;
    for (node, op) in nodes(graph) {
        let meta = |i: usize| node.inputs.get(i).copied().flatten().map(|v| graph.meta(v));
        let dims = match (meta(0), meta(1)) {
            (Some(q), Some(k)) => op.token_dims(q, k),
            _ => None,
        };
        let stack = match dims.map(|dims| dims.map(Some)) {
            Some([q, k]) if [q, k] == [input; 2] => Stack::Input,
            Some([q, k]) if [q, k] == [decoder; 2] => Stack::Decoder,
            Some([q, k]) if [q, k] == [decoder, input] => Stack::Cross,
            _ => {
                let message = "its queries or keys are not the tokens of an input";
                return Err(Error::op(node.op.name(), message).in_layer(&node.layer));
            }
        };
        let batch = meta(0).and_then(|q| q.dims.first().copied()).unwrap_or(Dim::Const(1));
        let [q, k] = dims.unwrap_or([Dim::Const(0); 2]);
        let each = [batch, q, k].iter().fold(op.n_heads, |n, d| n.saturating_mul(d.eval(sizes)));
        total = total.saturating_add(each);
        found.push((stack, node.layer.clone()));
    }
    if total > MOST_WEIGHTS {
        let message = format!(
            "{total} attention weights in {} layers; at most {MOST_WEIGHTS} are kept: a shorter \
             text is needed",
            found.len()
        );
        return Err(Error::Argument(message));
    }
    Ok(found)
}
