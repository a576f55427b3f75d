//! A place in a model: the graph, the parameters, and the path that names both layers and
//! tensors there.

use super::kept::Heads;
use super::norm::{Norm, NormKind};
use super::parameters::Parameters;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value, Weight};
use crate::ops::{Activate, Activation, Add, Gated, LayerNorm, Matmul, Op, RmsNorm};
use crate::tensor::Dim;

/// Where a model file stands while it builds: `at.scope("self_attn").linear("q_proj", x, n)` in
/// the layer `layers.3` multiplies by the checkpoint's `layers.3.self_attn.q_proj.weight`, and
/// the node, its errors and its timings carry the layer's name.
///
/// A path is the checkpoint's own; prefixes that some checkpoints put before it are
/// [`Parameters`]' matter.
pub struct Scope<'a> {
    graph: &'a mut Graph,
    parameters: Parameters,
    /// What stands before a tensor's name, without the dot.
    path: String,
    /// The path of the innermost layer, which its states are named by.
    layer: String,
}

/// `parent.name`, where neither is empty.
fn join(parent: &str, name: &str) -> String {
    match (parent, name) {
        ("", only) | (only, "") => only.to_owned(),
        _ => format!("{parent}.{name}"),
    }
}

impl<'a> Scope<'a> {
    /// The outermost place of a model.
    pub fn new(graph: &'a mut Graph, parameters: &Parameters) -> Self {
        let (path, layer) = (String::new(), String::new());
        Self { graph, parameters: parameters.clone(), path, layer }
    }

    /// The graph.
    pub fn graph(&mut self) -> &mut Graph {
        self.graph
    }

    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The whole name of `name` here; an empty one stands for the place itself.
    pub fn name(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// The path of the innermost layer: keys and values that it keeps are named by it.
    pub fn layer_name(&self) -> &str {
        &self.layer
    }

    /// The part `name` of this place, in the same layer.
    pub fn scope(&mut self, name: &str) -> Scope<'_> {
        let path = self.name(name);
        let (parameters, layer) = (self.parameters.clone(), self.layer.clone());
        Scope { graph: self.graph, parameters, path, layer }
    }

    /// The same place with other parameters.
    pub fn with(&mut self, parameters: &Parameters) -> Scope<'_> {
        Scope { parameters: parameters.clone(), ..self.scope("") }
    }

    /// The same place, where layers have a bias or have none; see [`Parameters::biased`].
    #[must_use]
    pub fn biased(self, bias: bool) -> Self {
        Self { parameters: self.parameters.biased(bias), ..self }
    }

    /// Builds the layer `name`: its nodes carry the layer's name, its tensors' names begin with
    /// it.
    pub fn layer<T>(
        &mut self,
        name: &str,
        build: impl FnOnce(&mut Scope) -> Result<T>,
    ) -> Result<T> {
        let mut inner = self.scope(name);
        // The graph joins the names of nested layers itself.
        let label = inner.path.strip_prefix(inner.layer.as_str()).unwrap_or(&inner.path);
        inner.graph.enter(label.trim_start_matches('.'));
        inner.layer.clone_from(&inner.path);
        let built = build(&mut inner);
        inner.graph.leave();
        built
    }

    /// Builds nodes that carry the layer name `name`, which is none of the checkpoint's: names
    /// of tensors stay as they are.
    pub fn group<T>(
        &mut self,
        name: &str,
        build: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.graph.enter(name);
        let built = build(self);
        self.graph.leave();
        built
    }

    /// The first result of an op.
    pub fn apply<const N: usize>(
        &mut self,
        op: impl Op,
        inputs: [Option<Value>; N],
    ) -> Result<Value> {
        self.graph.apply(op, inputs)
    }

    /// A weight as an operand.
    pub fn weight(&mut self, weight: Weight) -> Value {
        self.graph.weight(weight)
    }

    /// Length of the rows of `x`. Errors where a symbol stands for it.
    pub fn width(&self, x: Value) -> Result<usize> {
        match self.graph.meta(x).dims.last() {
            Some(Dim::Const(width)) => Ok(*width),
            _ => {
                let shape = self.graph.show_meta(self.graph.meta(x));
                Err(Error::Argument(format!("{}: {shape} has no fixed width", self.path)))
            }
        }
    }

    /// The embedding table `{name}` `[rows, width]`.
    pub fn table(&mut self, name: &str, rows: usize, width: usize) -> Result<Value> {
        let table = self.parameters.matrix(&self.name(name), &[rows, width])?;
        Ok(self.weight(table))
    }

    /// A vector or another small tensor `{name}`, as f32.
    pub fn vector(&mut self, name: &str, dims: &[usize]) -> Result<Value> {
        let vector = self.parameters.vector(&self.name(name), dims)?;
        Ok(self.weight(vector))
    }

    /// `a + b`.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value> {
        self.apply(Add, [Some(a), Some(b)])
    }

    /// `x weight^T` for `weight` `[n_out, n_in]`, and `bias` `[n_out]` where there is one.
    pub fn project(&mut self, x: Value, weight: Weight, bias: Option<Weight>) -> Result<Value> {
        let weight = self.weight(weight);
        let y = self.apply(Matmul::linear(), [Some(x), Some(weight), None, None])?;
        match bias {
            None => Ok(y),
            Some(bias) => {
                let bias = self.weight(bias);
                self.add(y, bias)
            }
        }
    }

    /// `x weight^T + bias` with `{name}.weight` `[n_out, n_in]` and, where it has one (see
    /// [`Parameters::bias`]), `{name}.bias` `[n_out]`; `n_in` is the width of `x`.
    pub fn linear(&mut self, name: &str, x: Value, n_out: usize) -> Result<Value> {
        let (name, n_in) = (self.name(name), self.width(x)?);
        let weight = self.parameters.matrix(&format!("{name}.weight"), &[n_out, n_in])?;
        let bias = self.parameters.bias(&name, n_out)?;
        self.project(x, weight, bias)
    }

    /// Queries, keys and values of `width` columns by three layers of these names.
    pub fn qkv(&mut self, [q, k, v]: [&str; 3], x: Value, width: usize) -> Result<[Heads; 3]> {
        let (q, k) = (self.linear(q, x, width)?, self.linear(k, x, width)?);
        Ok([q, k, self.linear(v, x, width)?].map(Heads::from))
    }

    /// Logits `x weight^T` by the output matrix `{own}` `[n_out, n_in]`, or by the word table
    /// that it is tied to; see [`Parameters::output`].
    pub fn output(&mut self, own: &str, x: Value, n_out: usize) -> Result<Value> {
        let dims = [n_out, self.width(x)?];
        let weight = self.parameters.output(&self.name(own), &dims)?;
        self.project(x, weight, None)
    }

    /// `x` normalised with `{name}.weight` and, where it has one, `{name}.bias`.
    pub fn norm(&mut self, name: &str, norm: Norm, x: Value) -> Result<Value> {
        let name = self.name(name);
        let weight = self.parameters.vector(&format!("{name}.weight"), &[norm.width])?;
        let weight = Some(self.weight(weight));
        if norm.kind != NormKind::Layer {
            let unit_offset = norm.kind == NormKind::RmsUnitOffset;
            let op = RmsNorm { eps: norm.eps, unit_offset, with_sum: false };
            return self.apply(op, [Some(x), None, weight]);
        }
        let bias = self.parameters.bias(&name, norm.width)?.map(|bias| self.weight(bias));
        let op = LayerNorm { eps: norm.eps, with_sum: false };
        self.apply(op, [Some(x), None, weight, bias])
    }

    /// A part of a layer with its residual connection and the norm `{name}`: `x + part(norm(x))`
    /// when the norm comes `first`, else `norm(x + part(x))`.
    pub fn residual(
        &mut self,
        name: &str,
        norm: Norm,
        first: bool,
        x: Value,
        part: impl FnOnce(&mut Self, Value) -> Result<Value>,
    ) -> Result<Value> {
        if first {
            let h = self.norm(name, norm, x)?;
            let h = part(self, h)?;
            return self.add(h, x);
        }
        let h = part(self, x)?;
        let sum = self.add(h, x)?;
        self.norm(name, norm, sum)
    }

    /// `act(x)`.
    pub fn activate(&mut self, activation: Activation, x: Value) -> Result<Value> {
        match activation {
            Activation::None => Ok(x),
            _ => self.apply(Activate { activation }, [Some(x)]),
        }
    }

    /// `act(x W1^T + b1) W2^T + b2` (Vaswani et al. 2017, section 3.3) with layers of these
    /// names, `inner` wide between them.
    pub fn feed_forward(
        &mut self,
        [up, down]: [&str; 2],
        x: Value,
        inner: usize,
        activation: Activation,
    ) -> Result<Value> {
        let width = self.width(x)?;
        let h = self.linear(up, x, inner)?;
        let h = self.activate(activation, h)?;
        self.linear(down, h, width)
    }

    /// `(act(x Wg^T) * (x Wu^T)) Wd^T` (Shazeer 2020) with layers named gate, up, down, `inner`
    /// wide between them.
    pub fn gated_feed_forward(
        &mut self,
        [gate, up, down]: [&str; 3],
        x: Value,
        inner: usize,
        activation: Activation,
    ) -> Result<Value> {
        let width = self.width(x)?;
        let gate = self.linear(gate, x, inner)?;
        let up = self.linear(up, x, inner)?;
        let h = self.apply(Gated { activation }, [Some(gate), Some(up)])?;
        self.linear(down, h, width)
    }
}
