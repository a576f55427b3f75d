//! The post-norm layer that BERT and its kin share (Vaswani et al. 2017, section 3.1):
//! `x = LayerNorm(x + attention(x)); x = LayerNorm(x + feed_forward(x))`, under each family's
//! tensor names.

use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Norm, Scope, Sequence};
use crate::ops::Activation;

/// Checkpoint names of a layer's parts, behind the layer's own name.
#[derive(Clone, Copy, Debug)]
pub struct LayerNames {
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    /// Projection of the attention's result, and the norm behind it.
    pub attention: [&'static str; 2],
    /// First projection of the feed-forward part.
    pub up: &'static str,
    /// Its second one, and the norm behind it.
    pub down: [&'static str; 2],
}

/// Names of BERT's layers, which several families keep.
pub const BERT_LAYER: LayerNames = LayerNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention: ["attention.output.dense", "attention.output.LayerNorm"],
    up: "intermediate.dense",
    down: ["output.dense", "output.LayerNorm"],
};

/// A stack's layers: sizes and names.
#[derive(Clone)]
pub struct PostNorm {
    pub names: LayerNames,
    /// Norm of the hidden states.
    pub norm: Norm,
    /// Width inside the feed-forward part.
    pub inner: usize,
    pub attend: Attend,
    pub activation: Activation,
}

impl PostNorm {
    /// `LayerNorm(x + attention(x))`, attending as `attend` says.
    pub fn attention(
        &self,
        at: &mut Scope,
        attend: &Attend,
        sequence: &Sequence,
        x: Value,
    ) -> Result<Value> {
        let LayerNames { query, key, value, attention: [out, norm], .. } = self.names;
        let width = self.norm.width;
        at.residual(norm, self.norm, false, x, |at, x| {
            let qkv = at.qkv([query, key, value], x, width)?;
            let context = attend.to_self(at, sequence, qkv)?;
            at.linear(out, context, width)
        })
    }

    /// `LayerNorm(x + feed_forward(x))`.
    pub fn feed_forward(&self, at: &mut Scope, x: Value) -> Result<Value> {
        let LayerNames { up, down: [down, norm], .. } = self.names;
        at.residual(norm, self.norm, false, x, |at, x| {
            at.feed_forward([up, down], x, self.inner, self.activation)
        })
    }
}
