//! Where the tokens of a stack stand, which of them count, and whether keys are kept.

use super::kept::Cache;
use super::scope::Scope;
use crate::error::Result;
use crate::graph::{Graph, Size, Value, Weight};
use crate::ops::{Embedding, Positions, Sinusoid, sinusoidal};
use crate::tensor::{DType, Dim, SymMeta};

/// The tokens that a stack of layers works on: all of a text at once, or those that come after
/// others whose keys and values were kept.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// u32 [batch, keys], 1 for a key that counts; `None` when all do.
    pub mask: Option<Value>,
    /// u32 [batch, tokens], where tokens do not simply stand at 0, 1, 2, …
    pub positions: Option<Value>,
    /// Tokens before the first one of this step.
    pub past: Dim,
    /// What learned position tables hold in front of position 0's row (2 in OPT and BART).
    pub base: usize,
    /// The caches, when keys and values are kept.
    pub cache: Option<Cache>,
}

impl Sequence {
    /// All tokens of a text, the first at position 0, under a mask u32 [batch, tokens].
    pub fn whole(mask: Option<Value>) -> Self {
        Self { mask, positions: None, past: Dim::Const(0), base: 0, cache: None }
    }

    /// The same with `base` rows in front of position 0 in learned position tables.
    #[must_use]
    pub fn with_base(self, base: usize) -> Self {
        Self { base, ..self }
    }

    /// The tokens of one decoding step, `ids` u32 [batch, tokens], behind `past` others.
    ///
    /// Adds the symbols `past` and `context`. When `padded`, prompts may be padded on the left:
    /// the inputs `attention_mask` u32 [batch, context] (1 from a row's first real token on)
    /// and `pads` u32 `[batch]` (padding tokens of a row) are added too. Keys and values are kept
    /// as `dtype`; see [`Cache`].
    pub fn step(
        graph: &mut Graph,
        ids: Value,
        padded: bool,
        base: usize,
        dtype: DType,
    ) -> Result<Self> {
        let past = Dim::Sym(graph.symbol(Size::Past)?);
        let context = Dim::Sym(graph.symbol(Size::Context)?);
        let batch = graph.meta(ids).dims.first().copied().unwrap_or(Dim::Const(1));
        let (mut mask, mut pads) = (None, None);
        if padded {
            mask = Some(graph.input("attention_mask", SymMeta::u32([batch, context])));
            pads = Some(graph.input("pads", SymMeta::u32([batch])));
        }
        let positions = graph.apply(Positions { offset: past, base }, [Some(ids), pads])?;
        let cache = Some(Cache { batch, length: context, dtype });
        Ok(Self { mask, positions: Some(positions), past, base, cache })
    }

    /// `scale * words[ids] + positions[position]`, the latter if the model has a position table.
    pub fn embed(
        &self,
        at: &mut Scope,
        ids: Value,
        words: Value,
        positions: Option<Value>,
        scale: f32,
    ) -> Result<Value> {
        let op = Embedding { scale, offset: Dim::Const(self.base) };
        let dtype = at.graph().meta(words).dtype;
        if let Some(table) = positions.filter(|&table| at.graph().meta(table).dtype != dtype) {
            // A computed table stays f32 beside words in 16 bits: the op takes one dtype.
            let x = at.apply(op, [Some(words), Some(ids), None, None, None, None])?;
            let positions = self.embed_positions(at, ids, table)?;
            return at.add(x, positions);
        }
        let which = positions.and(self.positions);
        at.apply(op, [Some(words), Some(ids), positions, which, None, None])
    }

    /// Rows of a learned position table, for models that do more to words before they add them.
    pub fn embed_positions(&self, at: &mut Scope, ids: Value, table: Value) -> Result<Value> {
        let which = match self.positions {
            Some(which) => which,
            None => {
                at.apply(Positions { offset: self.past, base: self.base }, [Some(ids), None])?
            }
        };
        let operands = [Some(table), Some(which), None, None, None, None];
        at.apply(Embedding::default(), operands)
    }
}

/// The sinusoidal encoding f32 [positions, width] of positions 0, 1, 2, …; see [`sinusoidal`].
pub fn sinusoid(at: &mut Scope, positions: usize, width: usize, layout: Sinusoid) -> Result<Value> {
    let table = sinusoidal(width, 0..positions, layout)?;
    let origin = format!("sinusoid {layout:?} {positions} {width}");
    Ok(at.weight(Weight::computed("sinusoid", origin, table)))
}
