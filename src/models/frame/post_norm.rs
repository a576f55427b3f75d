//! The post-norm layer that BERT and its kin share (Vaswani et al. 2017, section 3.1):
//! `x = LayerNorm(x + attention(x)); x = LayerNorm(x + feed_forward(x))`, under each family's
//! tensor names.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{Attend, Norm, Parameters, Sequence, add, feed_forward, linear};
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

/// A stack's layers: sizes, names, and where the tensors are.
#[derive(Clone)]
pub struct PostNorm {
    pub parameters: Parameters,
    pub names: LayerNames,
    /// Norm of the hidden states.
    pub norm: Norm,
    /// Width inside the feed-forward part.
    pub inner: usize,
    pub attend: Attend,
    pub activation: Activation,
}

impl PostNorm {
    /// The whole layer named `at`.
    pub fn layer(
        &self,
        graph: &mut Graph,
        at: &str,
        x: Value,
        sequence: &Sequence,
    ) -> Result<Value> {
        graph.enter(at);
        let x = self.attention(graph, at, x, sequence)?;
        let x = self.feed_forward(graph, at, x)?;
        graph.leave();
        Ok(x)
    }

    /// `LayerNorm(x + attention(x))`.
    pub fn attention(
        &self,
        graph: &mut Graph,
        at: &str,
        x: Value,
        sequence: &Sequence,
    ) -> Result<Value> {
        let width = self.norm.width;
        let mut project =
            |name: &str| linear(graph, &self.parameters, &format!("{at}.{name}"), x, width, width);
        let names = &self.names;
        let qkv = [project(names.query)?, project(names.key)?, project(names.value)?];
        let context = self.attend.to_self(graph, sequence, at, qkv.map(Into::into))?;
        let out = format!("{at}.{}", names.attention[0]);
        let out = linear(graph, &self.parameters, &out, context, width, width)?;
        self.close(graph, &format!("{at}.{}", names.attention[1]), out, x)
    }

    /// `LayerNorm(x + feed_forward(x))`.
    pub fn feed_forward(&self, graph: &mut Graph, at: &str, x: Value) -> Result<Value> {
        let names = [self.names.up, self.names.down[0]].map(|name| format!("{at}.{name}"));
        let names = [names[0].as_str(), names[1].as_str()];
        let sizes = [self.norm.width, self.inner];
        let out = feed_forward(graph, &self.parameters, names, x, sizes, self.activation)?;
        self.close(graph, &format!("{at}.{}", self.names.down[1]), out, x)
    }

    /// `LayerNorm(out + x)`: how every part of a layer ends, cross-attention too.
    pub fn close(&self, graph: &mut Graph, norm: &str, out: Value, x: Value) -> Result<Value> {
        let sum = add(graph, out, x)?;
        self.norm.apply(graph, &self.parameters, norm, sum)
    }
}
