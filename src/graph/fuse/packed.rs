//! Rewrites that make one product of several with the same input.

use super::rewrite::{Rewrite, sole_reader};
use crate::error::Result;
use crate::graph::node::Value;
use crate::ops::{Gated, Matmul};

/// The result of a plain projection at `at` whose only reader can read it at a column.
fn readable_at_column(graph: &Rewrite, at: usize) -> Option<Value> {
    graph.op::<Matmul>(at)?;
    let value = graph.nodes[at].as_ref()?.outputs.first().copied()?;
    graph.projection(value)?;
    let (reader, i) = sole_reader(graph, value)?;
    graph.nodes[reader].as_ref()?.op.at_column(i, 0)?;
    Some(value)
}

pub(super) fn qkv(graph: &mut Rewrite, at: usize) -> Result<bool> {
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

pub(super) fn gate_up(graph: &mut Rewrite, at: usize) -> Result<bool> {
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
