//! What graphs give out, in a whole pass and in a decoding step.

use crate::error::Result;
use crate::graph::{Graph, Size, Value};
use crate::models::model::{BuildOptions, Outputs};
use crate::nn::Scope;
use crate::ops::{Gather, L2Normalize, Pool, Sample, Splade};
use crate::tensor::{Dim, SymMeta};
use crate::weights::Pooling;

/// Name of the output that holds a decoding step's chosen ids, u32 `[batch]`.
pub const NEXT_TOKEN: &str = "next_token";

/// Name of a decoding step's input that says how an id is chosen, u32 `[6]`; see
/// [`Sampling::settings`](crate::ops::Sampling::settings).
pub const SAMPLING: &str = "sampling";

/// Name of the input of [`Outputs::MaskedTokens`] that says which tokens: u32 [batch, picks],
/// indices into each row.
pub const POSITIONS: &str = "positions";

/// Gives out `{prefix}hidden_states.N` where they were asked for: 0 is the input of layer 0, N
/// the output of layer N, the last one after the final norm.
pub fn hidden_states(graph: &mut Graph, options: &BuildOptions, prefix: &str, states: &[Value]) {
    if (Outputs::Class { hidden_states: true }) == options.outputs {
        for (i, &state) in states.iter().enumerate() {
            graph.output(format!("{prefix}hidden_states.{i}"), state);
        }
    }
}

/// The states, f32 [batch, picks, width], of the tokens that the input [`POSITIONS`] names.
pub fn picked(graph: &mut Graph, states: Value) -> Result<Value> {
    let batch = graph.meta(states).dims.first().copied().unwrap_or(Dim::Const(1));
    let picks = Dim::Sym(graph.symbol(Size::Picks)?);
    let picks = graph.input(POSITIONS, SymMeta::u32([batch, picks]));
    graph.apply(Gather, [Some(states), Some(picks)])
}

/// Gives out `logits` of a language model whose `head` turns hidden states into them: of every
/// token in a whole pass, or of those picked; of the last one in a decoding step, which also
/// chooses the next token.
pub fn language_model(
    at: &mut Scope,
    options: &BuildOptions,
    last: Value,
    head: impl FnOnce(&mut Scope, Value) -> Result<Value>,
) -> Result<()> {
    if options.outputs != Outputs::Decode {
        let masked = options.outputs == Outputs::MaskedTokens;
        let wanted = if masked { picked(at.graph(), last)? } else { last };
        let logits = head(at, wanted)?;
        at.graph().output("logits", logits);
        return Ok(());
    }
    let last = at.apply(Pool::Last, [Some(last), None])?;
    let logits = head(at, last)?;
    at.graph().output("logits", logits);
    let next = at.group("sampling", |at| {
        let settings = at.graph().input(SAMPLING, SymMeta::u32([6usize]));
        // The position tells the steps apart.
        let step = at.graph().symbol(Size::Past).map(Dim::Sym)?;
        at.apply(Sample { step }, [Some(logits), Some(settings)])
    })?;
    at.graph().output(NEXT_TOKEN, next);
    Ok(())
}

/// Gives out `embedding`: pooled tokens, by their states or, for [`Pooling::Splade`], their logits,
/// scaled to length 1 if `normalize`.
pub fn pool(
    at: &mut Scope,
    last: Value,
    mask: Value,
    pooling: Pooling,
    normalize: bool,
) -> Result<()> {
    let pooled = at.group("pooling", |at| {
        let pooled = match pooling {
            Pooling::Mean => at.apply(Pool::Mean, [Some(last), Some(mask)])?,
            Pooling::Cls => at.apply(Pool::Cls, [Some(last), None])?,
            Pooling::Splade => at.apply(Splade, [Some(last), Some(mask)])?,
        };
        match normalize {
            true => at.apply(L2Normalize { eps: 1e-12 }, [Some(pooled)]),
            false => Ok(pooled),
        }
    })?;
    at.graph().output("embedding", pooled);
    Ok(())
}
