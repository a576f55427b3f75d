//! Rewrites around rotary positions.

use std::sync::Arc;

use super::{Rewrite, sole_reader};
use crate::ops::{CacheAppend, Rope, RopeAppend};

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
    node.inputs = [k_cache, v_cache].into_iter().chain(operands).collect();
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
