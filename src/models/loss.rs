//! How well a language model predicts given tokens, without reading its logits back.

use super::model::Model;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::CrossEntropy;
use crate::tensor::{DType, SymMeta};

/// Name of the input that says what was to be predicted: u32 [batch, tokens or picks].
pub const LABELS: &str = "labels";

/// Name of the output: f32 [batch, tokens or picks], `-log p(label)` in nats.
pub const LOSS: &str = "loss";

/// A label that marks a place to leave out, -100 as by custom; its loss is 0.
pub(crate) const IGNORED: i32 = -100;

/// Replaces a model's `logits` by the [`LOSS`] of each token against the input [`LABELS`].
///
/// Errors when the model gives out no `logits`.
pub fn token_losses(model: &mut Model) -> Result<()> {
    let graph: &mut Graph = &mut model.graph;
    let missing = || Error::tensor("logits", "the model gives out none: it has no language head");
    let logits = graph.take_output("logits").ok_or_else(missing)?;
    let dims = graph.meta(logits).lead().to_vec();
    graph.enter("loss");
    let labels = graph.input(LABELS, SymMeta { dims, dtype: DType::U32 });
    let op = CrossEntropy { ignored: IGNORED, smoothing: 0.0 };
    let loss = graph.apply(op, [Some(logits), Some(labels)])?;
    graph.leave();
    graph.output(LOSS, loss);
    Ok(())
}
