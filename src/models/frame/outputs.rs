//! What graphs of generating models give out, in a whole pass and in a decoding step.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::models::model::{BuildOptions, Outputs};
use crate::ops::{Gather, L2Normalize, Pool, Sample};
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
    let picks = Dim::Sym(graph.symbol("picks")?);
    let picks = graph.input(POSITIONS, SymMeta::u32([batch, picks]));
    graph.apply(Gather, [Some(states), Some(picks)])
}

/// Gives out `logits` of a language model whose `head` turns hidden states into them: of every
/// token in a whole pass, or of those picked; of the last one in a decoding step, which also
/// chooses the next token.
pub fn language_model(
    graph: &mut Graph,
    options: &BuildOptions,
    last: Value,
    head: impl FnOnce(&mut Graph, Value) -> Result<Value>,
) -> Result<()> {
    if options.outputs != Outputs::Decode {
        let wanted =
            if options.outputs == Outputs::MaskedTokens { picked(graph, last)? } else { last };
        let logits = head(graph, wanted)?;
        graph.output("logits", logits);
        return Ok(());
    }
    let last = graph.apply(Pool::Last, [Some(last), None])?;
    let logits = head(graph, last)?;
    graph.output("logits", logits);
    graph.enter("sampling");
    let settings = graph.input(SAMPLING, SymMeta::u32([6usize]));
    // The position tells the steps apart.
    let step = graph.symbol("past").map(Dim::Sym)?;
    let next = graph.apply(Sample { step }, [Some(logits), Some(settings)])?;
    graph.leave();
    graph.output(NEXT_TOKEN, next);
    Ok(())
}

/// Gives out `embedding`: pooled tokens, scaled to length 1 if `normalize`.
pub fn pool(
    graph: &mut Graph,
    last: Value,
    mask: Value,
    pooling: Pooling,
    normalize: bool,
) -> Result<()> {
    graph.enter("pooling");
    let op = if pooling == Pooling::Cls { Pool::Cls } else { Pool::Mean };
    let mask = (pooling == Pooling::Mean).then_some(mask);
    let mut pooled = graph.apply(op, [Some(last), mask])?;
    if normalize {
        pooled = graph.apply(L2Normalize { eps: 1e-12 }, [Some(pooled)])?;
    }
    graph.leave();
    graph.output("embedding", pooled);
    Ok(())
}
