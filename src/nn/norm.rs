//! Normalisations as models use them.

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
