//! The blocks of a transformer layer, built of primitive ops; fusion merges them later.

use super::Parameters;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::{Activate, Activation, Add, Gated, LayerNorm, Matmul, RmsNorm};
use crate::weights;

/// `x weight^T + bias` with `{name}.weight` `[n_out, n_in]` and, where it has one (see
/// [`Parameters::bias`]), `{name}.bias` `[n_out]`.
pub fn linear(
    graph: &mut Graph,
    parameters: &Parameters,
    name: &str,
    x: Value,
    n_in: usize,
    n_out: usize,
) -> Result<Value> {
    let weight = parameters.matrix(&format!("{name}.weight"), &[n_out, n_in])?;
    let weight = graph.weight(weight);
    let y = graph.apply(Matmul::linear(), [Some(x), Some(weight), None, None])?;
    match parameters.bias(name, n_out)? {
        None => Ok(y),
        Some(bias) => {
            let bias = graph.weight(bias);
            add(graph, y, bias)
        }
    }
}

/// An embedding table `{name}` `[rows, width]`.
pub fn table(
    graph: &mut Graph,
    parameters: &Parameters,
    name: &str,
    rows: usize,
    width: usize,
) -> Result<Value> {
    Ok(graph.weight(parameters.matrix(name, &[rows, width])?))
}

/// `a + b`.
pub fn add(graph: &mut Graph, a: Value, b: Value) -> Result<Value> {
    graph.apply(Add, [Some(a), Some(b)])
}

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
    /// The norm with `{name}.weight` and, for a layer norm, `{name}.bias`.
    pub fn apply(
        self,
        graph: &mut Graph,
        parameters: &Parameters,
        name: &str,
        x: Value,
    ) -> Result<Value> {
        let weight = graph.weight(parameters.vector(&format!("{name}.weight"), &[self.width])?);
        if self.kind != NormKind::Layer {
            let unit_offset = self.kind == NormKind::RmsUnitOffset;
            let op = RmsNorm { eps: self.eps, unit_offset, with_sum: false };
            return graph.apply(op, [Some(x), None, Some(weight)]);
        }
        let bias = parameters.bias(name, self.width)?.map(|bias| graph.weight(bias));
        let op = LayerNorm { eps: self.eps, with_sum: false };
        graph.apply(op, [Some(x), None, Some(weight), bias])
    }

    /// A part of a layer with its residual connection and this norm: `x + part(norm(x))` when
    /// the norm comes `first`, else `norm(x + part(x))`.
    pub fn around(
        self,
        graph: &mut Graph,
        parameters: &Parameters,
        name: &str,
        first: bool,
        x: Value,
        part: impl FnOnce(&mut Graph, Value) -> Result<Value>,
    ) -> Result<Value> {
        if first {
            let h = self.apply(graph, parameters, name, x)?;
            let h = part(graph, h)?;
            return add(graph, h, x);
        }
        let h = part(graph, x)?;
        let sum = add(graph, h, x)?;
        self.apply(graph, parameters, name, sum)
    }
}

/// The op's activation for the one a configuration names.
pub fn activation(named: weights::Activation) -> Activation {
    match named {
        weights::Activation::GeluErf => Activation::GeluErf,
        weights::Activation::GeluTanh => Activation::GeluTanh,
        weights::Activation::QuickGelu => Activation::QuickGelu,
        weights::Activation::Relu => Activation::Relu,
        weights::Activation::Silu => Activation::Silu,
        weights::Activation::Tanh => Activation::Tanh,
        weights::Activation::Sigmoid => Activation::Sigmoid,
    }
}

/// `act(x W1^T + b1) W2^T + b2`.
pub fn feed_forward(
    graph: &mut Graph,
    parameters: &Parameters,
    names: [&str; 2],
    x: Value,
    sizes: [usize; 2],
    activation: Activation,
) -> Result<Value> {
    let [width, inner] = sizes;
    let h = linear(graph, parameters, names[0], x, width, inner)?;
    let h = graph.apply(Activate { activation }, [Some(h)])?;
    linear(graph, parameters, names[1], h, inner, width)
}

/// `(act(x Wg^T) * (x Wu^T)) Wd^T` with projections named gate, up, down (Shazeer 2020).
pub fn gated_feed_forward(
    graph: &mut Graph,
    parameters: &Parameters,
    names: [&str; 3],
    x: Value,
    sizes: [usize; 2],
    activation: Activation,
) -> Result<Value> {
    let [width, inner] = sizes;
    let gate = linear(graph, parameters, names[0], x, width, inner)?;
    let up = linear(graph, parameters, names[1], x, width, inner)?;
    let h = graph.apply(Gated { activation }, [Some(gate), Some(up)])?;
    linear(graph, parameters, names[2], h, inner, width)
}
