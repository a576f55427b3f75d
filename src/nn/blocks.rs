//! The blocks of a transformer layer, built of primitive ops; fusion merges them later.

use super::Parameters;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::{Activate, Activation, Add, Attention, HeadLayout, LayerNorm, Matmul};
use crate::tensor::Dim;
use crate::weights;

/// `x weight^T + bias` with `{name}.weight` `[n_out, n_in]` and, where the checkpoint has it,
/// `{name}.bias` `[n_out]`.
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
    let bias = format!("{name}.bias");
    if !parameters.contains(&bias) {
        return Ok(y);
    }
    let bias = graph.weight(parameters.vector(&bias, &[n_out])?);
    graph.apply(Add, [Some(y), Some(bias)])
}

/// A layer norm's attributes, to be applied under different names.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Width of the rows.
    pub width: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl Norm {
    /// Layer norm with `{name}.weight` and `{name}.bias`.
    pub fn apply(
        self,
        graph: &mut Graph,
        parameters: &Parameters,
        name: &str,
        x: Value,
    ) -> Result<Value> {
        let weight = graph.weight(parameters.vector(&format!("{name}.weight"), &[self.width])?);
        let bias = graph.weight(parameters.vector(&format!("{name}.bias"), &[self.width])?);
        let op = LayerNorm { eps: self.eps, with_sum: false };
        graph.apply(op, [Some(x), None, Some(weight), Some(bias)])
    }
}

/// Names and sizes of a self-attention block.
#[derive(Clone, Copy, Debug)]
pub struct SelfAttention<'a> {
    /// Checkpoint names of the query, key and value projections.
    pub projections: [&'a str; 3],
    /// Heads.
    pub n_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Bidirectional self-attention of x [batch, tokens, n_heads * head_dim] under a padding mask
/// u32 [batch, tokens], without the output projection.
pub fn self_attention(
    graph: &mut Graph,
    parameters: &Parameters,
    block: SelfAttention<'_>,
    x: Value,
    mask: Value,
) -> Result<Value> {
    let width = block.n_heads * block.head_dim;
    let mut project = |name| linear(graph, parameters, name, x, width, width).map(Some);
    let [q, k, v] = block.projections;
    let (q, k, v) = (project(q)?, project(k)?, project(v)?);
    let op = Attention {
        n_heads: block.n_heads,
        n_kv_heads: block.n_heads,
        head_dim: block.head_dim,
        layout: HeadLayout::Tokens,
        q_column: 0,
        k_column: 0,
        v_column: 0,
        scale: (1.0 / (block.head_dim as f64).sqrt()) as f32,
        causal: false,
        q_offset: Dim::Const(0),
        window: None,
        softcap: None,
        max_distance: 0,
    };
    graph.apply(op, [q, k, v, Some(mask), None, None])
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
