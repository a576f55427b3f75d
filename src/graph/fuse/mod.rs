//! Rewrites that save dispatches and memory traffic without changing what is computed.
//!
//! Each rewrite is one function and can be switched off by name. They run in the order of
//! [`Fusion::ALL`], each until it finds nothing more.

mod epilogue;
mod packed;
mod rewrite;
mod rotary;

use std::collections::HashSet;

use epilogue::{activation, bias, gated, residual, residual_norm};
use packed::{gate_up, qkv};
use rewrite::Rewrite;
use rotary::{norm_rope_append, rope_append, rope_pair};

use super::node::Graph;
use crate::error::Result;

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
