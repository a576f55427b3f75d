//! Rewrites around rotary positions.

use std::sync::Arc;

use super::rewrite::{Projection, Rewrite, sole_reader};
use crate::error::Result;
use crate::graph::node::Value;
use crate::graph::weight::Weight;
use crate::ops::{CacheAppend, RmsNorm, Rope, RopeAppend};

/// A cache that takes rotated keys and values out of the value whose queries are rotated alike.
pub(super) fn rope_append(graph: &mut Rewrite, at: usize) -> Option<()> {
    let append = graph.op::<CacheAppend>(at)?.clone();
    let [k_cache, v_cache, k, x] = [0, 1, 2, 3].map(|i| graph.operand(at, i));
    let of_keys = graph.sole::<Rope>(k?)?;
    let keys = graph.op::<Rope>(of_keys)?.clone();
    let operands = graph.nodes[of_keys].as_ref()?.inputs.clone();
    if operands.first() != Some(&x)
        || append.k_column != 0
        || !RopeAppend::takes(keys.head_dim, keys.rotary_dim)
    {
        return None;
    }
    let alike = |other: &usize| {
        let like = |op: &Rope| Rope { n_heads: keys.n_heads, column: keys.column, ..op.clone() };
        *other != of_keys
            && graph.op::<Rope>(*other).is_some_and(|op| like(op) == keys)
            && graph.nodes[*other].as_ref().is_some_and(|n| n.inputs == operands)
    };
    let of_queries = (0..at).find(alike)?;
    let op = RopeAppend {
        rope: graph.op::<Rope>(of_queries)?.clone(),
        n_kv_heads: keys.n_heads,
        k_column: keys.column,
        v_column: append.v_column,
        past: append.offset,
        norm: None,
    };
    let q = graph.nodes[of_queries].as_ref()?.outputs.first().copied()?;
    // Queries come out with the caches, so nobody may want them earlier.
    if graph.nodes[..at].iter().flatten().any(|n| n.inputs.contains(&Some(q))) {
        return None;
    }
    graph.nodes[of_queries] = None;
    graph.nodes[of_keys] = None;
    let node = graph.nodes[at].as_mut()?;
    node.op = Arc::new(op);
    node.inputs = [k_cache, v_cache].into_iter().chain(operands).chain([None]).collect();
    node.outputs.push(q);
    Some(())
}

/// Rotations of neighbouring heads of one value by the same angles, as of queries and keys.
pub(super) fn rope_pair(graph: &mut Rewrite, at: usize) -> Option<()> {
    let first = graph.op::<Rope>(at)?.clone();
    let operands = graph.nodes[at].as_ref()?.inputs.clone();
    let width = first.n_heads * first.head_dim;
    let next = Rope { column: first.column + width, ..first.clone() };
    let same = |other: &usize| {
        graph
            .op::<Rope>(*other)
            .is_some_and(|op| Rope { n_heads: first.n_heads, ..op.clone() } == next)
            && graph.nodes[*other].as_ref().is_some_and(|n| n.inputs == operands)
    };
    let other = (at + 1..graph.nodes.len()).find(same)?;
    let second = graph.op::<Rope>(other)?.clone();
    let result = |i: usize| graph.nodes[i].as_ref()?.outputs.first().copied();
    let (a, b) = (result(at)?, result(other)?);
    let readers = [sole_reader(graph, a)?, sole_reader(graph, b)?];
    for (reader, i) in readers {
        graph.nodes[reader].as_ref()?.op.at_column(i, 0)?;
    }
    let n_heads = first.n_heads + second.n_heads;
    let packed = graph.fresh(a, n_heads * first.head_dim);
    graph.nodes[other] = None;
    let node = graph.nodes[at].as_mut()?;
    node.op = Arc::new(Rope { n_heads, ..first });
    node.outputs = vec![packed];
    for ((reader, i), column) in readers.into_iter().zip([0, width]) {
        graph.read_at(reader, i, packed, column);
    }
    Some(())
}

/// A projection whose heads are normalised and rotated.
struct Rotated {
    at: usize,
    rope: Rope,
    norm_at: usize,
    norm: RmsNorm,
    factors: Weight,
    projection: Projection,
}

fn rotated(graph: &Rewrite, value: Value) -> Option<Rotated> {
    let at = graph.sole::<Rope>(value)?;
    let rope = graph.op::<Rope>(at)?.clone();
    let norm_at = graph.sole::<RmsNorm>(graph.operand(at, 0)?)?;
    let norm = graph.op::<RmsNorm>(norm_at)?.clone();
    let factors = graph.graph.as_weight(graph.operand(norm_at, 2)?)?.clone();
    let alone = graph.operand(norm_at, 1).is_none() && !norm.with_sum && rope.column == 0;
    let by_head = factors.meta().shape.dims() == [rope.head_dim];
    let projection = graph.projection(graph.operand(norm_at, 0)?)?;
    let plain = alone && by_head && RopeAppend::takes(rope.head_dim, rope.rotary_dim);
    plain.then_some(Rotated { at, rope, norm_at, norm, factors, projection })
}

/// Queries and keys of one input that are projected, normalised by head and rotated, then both
/// caches: one product and one pass.
pub(super) fn norm_rope_append(graph: &mut Rewrite, at: usize) -> Result<bool> {
    let Some(append) = graph.op::<CacheAppend>(at).cloned() else { return Ok(false) };
    let [k_cache, v_cache, k, v] = [0, 1, 2, 3].map(|i| graph.operand(at, i));
    let (Some(keys), Some(values)) =
        (k.and_then(|k| rotated(graph, k)), v.and_then(|v| graph.projection(v)))
    else {
        return Ok(false);
    };
    let tables = |graph: &Rewrite, at: usize| [1, 2, 3].map(|i| graph.operand(at, i));
    let alike = |other: &Rotated| {
        Rope { n_heads: keys.rope.n_heads, ..other.rope.clone() } == keys.rope
            && other.norm == keys.norm
            && tables(graph, other.at) == tables(graph, keys.at)
            && other.projection.stacks_on(&keys.projection)
            && values.stacks_on(&keys.projection)
    };
    let candidates = (0..at).filter(|i| *i != keys.at && graph.op::<Rope>(*i).is_some());
    let mut queries = candidates.filter_map(|i| {
        let q = graph.nodes[i].as_ref()?.outputs.first().copied()?;
        let early = graph.nodes[..at].iter().flatten().any(|n| n.inputs.contains(&Some(q)));
        (!early).then(|| rotated(graph, q)).flatten().filter(alike).map(|found| (q, found))
    });
    let Some((q, queries)) = queries.next() else { return Ok(false) };
    if append.k_column != 0 || append.v_column != 0 {
        return Ok(false);
    }
    let operands = tables(graph, keys.at);
    let factors = Weight::stack(&[&queries.factors, &keys.factors])?;
    let parts = [queries.projection, keys.projection, values];
    let Some((packed, columns)) = graph.stack(&parts)? else { return Ok(false) };
    for gone in [queries.at, queries.norm_at, keys.at, keys.norm_at] {
        graph.nodes[gone] = None;
    }
    let factors = graph.graph.weight(factors);
    let op = RopeAppend {
        rope: Rope { column: columns[0], ..queries.rope },
        n_kv_heads: keys.rope.n_heads,
        k_column: columns[1],
        v_column: columns[2],
        past: append.offset,
        norm: Some(keys.norm),
    };
    if let Some(node) = &mut graph.nodes[at] {
        node.op = Arc::new(op);
        let [cos, sin, positions] = operands;
        node.inputs = vec![k_cache, v_cache, Some(packed), cos, sin, positions, Some(factors)];
        node.outputs.push(q);
    }
    Ok(true)
}
