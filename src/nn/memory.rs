//! Cross-attention: what a decoder reads of an encoder's result.

use super::attention::{Attend, Heads, kept};
use super::blocks::linear;
use super::parameters::Parameters;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::CacheAppend;
use crate::tensor::{Dim, SymMeta};

/// The encoder's result as a decoder's layers see it.
#[derive(Clone, Copy, Debug)]
pub enum Memory {
    /// The encoder's last hidden state f32 [batch, source, width]; every layer projects it.
    Hidden {
        /// The hidden state.
        value: Value,
        /// u32 [batch, source], 1 for a real token.
        mask: Value,
    },
    /// Keys and values that the encoder's graph projected and kept; see [`Memory::keep`].
    Kept {
        /// Sequences.
        batch: Dim,
        /// Tokens of the encoder's input.
        source: Dim,
        /// u32 [batch, source], 1 for a real token.
        mask: Value,
    },
}

/// Checkpoint names of a cross-attention's key and value projections, and the width of the
/// encoder's hidden state.
#[derive(Clone, Copy, Debug)]
pub struct CrossNames<'a> {
    /// Name of the layer's states, equal in both graphs.
    pub layer: &'a str,
    /// Key projection.
    pub k: &'a str,
    /// Value projection.
    pub v: &'a str,
    /// Width of the encoder's hidden state.
    pub width: usize,
}

impl Memory {
    /// Kept keys and values, for a decoder's graph: adds the symbol `source` and the input
    /// `encoder_attention_mask` u32 [batch, source].
    pub fn kept(graph: &mut Graph, batch: Dim) -> Result<Self> {
        let source = Dim::Sym(graph.symbol("source")?);
        let mask = graph.input("encoder_attention_mask", SymMeta::u32([batch, source]));
        Ok(Self::Kept { batch, source, mask })
    }

    /// For an encoder's graph: projects its result `hidden` to a decoder layer's keys and
    /// values and keeps them in that layer's states.
    pub fn keep(
        graph: &mut Graph,
        parameters: &Parameters,
        attend: &Attend,
        names: CrossNames<'_>,
        hidden: Value,
    ) -> Result<()> {
        let width = attend.n_kv_heads * attend.head_dim;
        let dims = [0, 1].map(|i| graph.meta(hidden).dims.get(i).copied().unwrap_or(Dim::Const(1)));
        let [k, v] = project(graph, parameters, names, hidden, width)?;
        let [k_cache, v_cache] = kept(graph, &format!("{}.cross", names.layer), dims, width);
        let op = CacheAppend { offset: Dim::Const(0), k_column: k.column, v_column: v.column };
        let operands = [Some(k_cache), Some(v_cache), Some(k.value), Some(v.value)];
        graph.apply_all(op, operands)?;
        Ok(())
    }

    /// Attention of queries f32 [batch, tokens, ..] to the encoder's result.
    pub fn attend(
        &self,
        graph: &mut Graph,
        parameters: &Parameters,
        attend: &Attend,
        names: CrossNames<'_>,
        q: Heads,
    ) -> Result<Value> {
        let width = attend.n_kv_heads * attend.head_dim;
        let (k, v, mask) = match *self {
            Self::Hidden { value, mask } => {
                let [k, v] = project(graph, parameters, names, value, width)?;
                (k, v, mask)
            }
            Self::Kept { batch, source, mask } => {
                let layer = format!("{}.cross", names.layer);
                let [k, v] = kept(graph, &layer, [batch, source], width);
                (k.into(), v.into(), mask)
            }
        };
        attend.apply(graph, [q, k, v], Some(mask), Dim::Const(0), false)
    }
}

fn project(
    graph: &mut Graph,
    parameters: &Parameters,
    names: CrossNames<'_>,
    hidden: Value,
    width: usize,
) -> Result<[Heads; 2]> {
    let k = linear(graph, parameters, names.k, hidden, names.width, width)?;
    let v = linear(graph, parameters, names.v, hidden, names.width, width)?;
    Ok([k.into(), v.into()])
}
