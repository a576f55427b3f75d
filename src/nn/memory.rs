//! Cross-attention: what a decoder reads of an encoder's result.

use super::attention::Attend;
use super::kept::{Cache, Heads};
use super::scope::Scope;
use crate::error::Result;
use crate::graph::{Graph, Size, Value};
use crate::ops::CacheAppend;
use crate::tensor::{DType, Dim, SymMeta};

/// The encoder's result as a decoder's layers see it.
#[derive(Clone, Copy, Debug)]
pub enum Memory {
    /// What the encoder gives, f32 [batch, source, width]; every layer projects it.
    Hidden {
        /// The hidden state.
        value: Value,
        /// u32 [batch, source], 1 for a real token.
        mask: Value,
    },
    /// Keys and values that the encoder's graph projected and kept; see [`Memory::keep`].
    Kept {
        /// The caches, as long as the encoder's input.
        cache: Cache,
        /// u32 [batch, source], 1 for a real token.
        mask: Value,
    },
}

impl Memory {
    /// Kept keys and values, for a decoder's graph: adds the symbol `source` and the input
    /// `encoder_attention_mask` u32 [batch, source]. `dtype` is what both graphs keep them in.
    pub fn kept(graph: &mut Graph, batch: Dim, dtype: DType) -> Result<Self> {
        let source = Dim::Sym(graph.symbol(Size::Source)?);
        let mask = graph.input("encoder_attention_mask", SymMeta::u32([batch, source]));
        Ok(Self::Kept { cache: Cache { batch, length: source, dtype }, mask })
    }

    /// For an encoder's graph: keeps a decoder layer's keys and values f32 [batch, source, ..]
    /// in the layer's states, which the decoder's graph calls the same, as `dtype`.
    pub fn keep(at: &mut Scope, attend: &Attend, [k, v]: [Heads; 2], dtype: DType) -> Result<()> {
        let width = attend.n_kv_heads * attend.head_dim;
        let layer = format!("{}.cross", at.layer_name());
        let graph = at.graph();
        let meta = graph.meta(k.value);
        let [batch, length] = [0, 1].map(|i| meta.dims.get(i).copied().unwrap_or(Dim::Const(1)));
        let cache = Cache { batch, length, dtype };
        let [k_cache, v_cache] = cache.states(graph, &layer, width);
        let op = CacheAppend { offset: Dim::Const(0), k_column: k.column, v_column: v.column };
        let operands = [Some(k_cache), Some(v_cache), Some(k.value), Some(v.value)];
        graph.apply_all(op, operands)?;
        Ok(())
    }

    /// Attention of a layer's queries f32 [batch, tokens, ..] to the encoder's result, whose
    /// keys and values `project` makes where they were not kept.
    pub fn attend(
        &self,
        at: &mut Scope,
        attend: &Attend,
        q: Heads,
        project: impl FnOnce(&mut Scope, Value) -> Result<[Heads; 2]>,
    ) -> Result<Value> {
        let ([k, v], mask) = match *self {
            Self::Hidden { value, mask } => (project(at, value)?, mask),
            Self::Kept { cache, mask } => {
                let width = attend.n_kv_heads * attend.head_dim;
                let layer = format!("{}.cross", at.layer_name());
                let states = cache.states(at.graph(), &layer, width);
                (states.map(Heads::from), mask)
            }
        };
        attend.apply(at.graph(), [q, k, v], Some(mask), Dim::Const(0), false)
    }
}
