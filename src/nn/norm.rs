//! Normalisations as models use them.

use super::Scope;
use crate::error::Result;
use crate::graph::Value;
use crate::ops::{LayerNorm, RmsNorm};

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Layer norm with weight and, where it has one, bias.
    Layer,
    /// Root-mean-square norm with a weight.
    Rms,
    /// Root-mean-square norm whose factor is `1 + weight` (Gemma).
    RmsUnitOffset,
}

/// A norm's attributes, to be applied under different names.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Width of the rows, or of a head: every head is then normalised on its own.
    pub width: usize,
    /// Added to the variance or the mean square.
    pub eps: f32,
    /// Which one.
    pub kind: NormKind,
}

impl Norm {
    /// The norm with `{name}.weight` and, for a layer norm that has one, `{name}.bias`.
    pub(super) fn apply(self, at: &mut Scope, name: &str, x: Value) -> Result<Value> {
        let name = at.name(name);
        let weight = at.parameters().vector(&format!("{name}.weight"), &[self.width])?;
        let weight = Some(at.weight(weight));
        if self.kind != NormKind::Layer {
            let unit_offset = self.kind == NormKind::RmsUnitOffset;
            let op = RmsNorm { eps: self.eps, unit_offset, with_sum: false };
            return at.apply(op, [Some(x), None, weight]);
        }
        let bias = at.parameters().bias(&name, self.width)?.map(|bias| at.weight(bias));
        let op = LayerNorm { eps: self.eps, with_sum: false };
        at.apply(op, [Some(x), None, weight, bias])
    }
}
