//! The graph and its builder.

use std::collections::HashMap;
use std::sync::Arc;

use super::weight::Weight;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::ops::Op;
use crate::tensor::{DType, Dim, MAX_SYMS, Sizes, Sym, SymMeta, Tensor};

/// A value in a graph: an input, a weight, or a node's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(super) u32);

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Input(String),
    /// Kept from step to step, and shared by name between the sessions of one [`States`].
    ///
    /// [`States`]: super::States
    State(String),
    Weight(Arc<Weight>),
    Node,
}

#[derive(Clone, Debug)]
pub(super) struct ValueInfo {
    pub source: Source,
    pub meta: SymMeta,
}

/// One op applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// The op with its attributes.
    pub op: Arc<dyn Op>,
    /// Operands by position.
    pub inputs: Vec<Option<Value>>,
    /// Results by position.
    pub outputs: Vec<Value>,
    /// The layer it was built in, such as `encoder.layer.3`.
    pub layer: String,
}

/// Ops in the order they run, grouped in named layers.
///
/// ```
/// use tilewright::graph::Graph;
/// use tilewright::ops::LayerNorm;
/// use tilewright::tensor::{Dim, SymMeta};
///
/// let mut graph = Graph::new();
/// let tokens = graph.symbol("tokens")?;
/// let x = graph.input("x", SymMeta::f32([Dim::Sym(tokens), Dim::Const(8)]));
/// let y = graph.apply(LayerNorm { eps: 1e-5, with_sum: false }, [Some(x), None, None, None])?;
/// graph.output("y", y);
/// assert_eq!(graph.nodes().len(), 1);
/// # Ok::<(), tilewright::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(super) symbols: Vec<String>,
    pub(super) values: Vec<ValueInfo>,
    pub(super) nodes: Vec<Node>,
    pub(super) outputs: Vec<(String, Value)>,
    weights: HashMap<(String, DType), Value>,
    layers: Vec<String>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// A size that every step gives anew, such as `batch` or `tokens`. The same name gives
    /// the same symbol; models take theirs from [`Size`](super::Size). Errors beyond
    /// [`MAX_SYMS`] names.
    pub fn symbol<N: AsRef<str>>(&mut self, name: N) -> Result<Sym> {
        let name = name.as_ref();
        let index = match self.symbols.iter().position(|s| s == name) {
            Some(index) => index,
            None if self.symbols.len() < MAX_SYMS => {
                self.symbols.push(name.to_owned());
                self.symbols.len() - 1
            }
            None => {
                let message = format!("symbol `{name}`: a graph has at most {MAX_SYMS}");
                return Err(Error::Argument(message));
            }
        };
        // At most MAX_SYMS, checked above.
        Ok(Sym(index as u8))
    }

    /// The symbol of this name, if the graph has it.
    pub fn find_symbol(&self, name: &str) -> Option<Sym> {
        self.symbols.iter().position(|s| s == name).map(|i| Sym(i as u8))
    }

    /// Names of the symbols, by index.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    fn value(&mut self, source: Source, meta: SymMeta) -> Value {
        self.values.push(ValueInfo { source, meta });
        Value(self.values.len() as u32 - 1)
    }

    /// A tensor that every step gives anew.
    pub fn input(&mut self, name: &str, meta: SymMeta) -> Value {
        self.value(Source::Input(name.to_owned()), meta)
    }

    /// A tensor that is kept from step to step, such as a cache: zeros at first, changed by ops
    /// that write in place.
    pub fn state(&mut self, name: impl Into<String>, meta: SymMeta) -> Value {
        self.value(Source::State(name.into()), meta)
    }

    /// A constant. Equal origin and storage give the same value.
    pub fn weight(&mut self, weight: Weight) -> Value {
        let key = weight.key();
        if let Some(&value) = self.weights.get(&key) {
            return value;
        }
        let meta = weight.meta().into();
        let value = self.value(Source::Weight(Arc::new(weight)), meta);
        self.weights.insert(key, value);
        value
    }

    /// Opens a layer; nodes built until [`leave`](Self::leave) carry its name.
    pub fn enter(&mut self, name: impl Into<String>) {
        self.layers.push(name.into());
    }

    /// Closes the innermost layer.
    pub fn leave(&mut self) {
        self.layers.pop();
    }

    /// Appends a node and gives all its results. Errors are the op's, with the layer's name.
    pub fn apply_all<const N: usize>(
        &mut self,
        op: impl Op,
        inputs: [Option<Value>; N],
    ) -> Result<Vec<Value>> {
        self.push(Arc::new(op), inputs.to_vec())
    }

    /// Appends a node and gives its first result.
    pub fn apply<const N: usize>(
        &mut self,
        op: impl Op,
        inputs: [Option<Value>; N],
    ) -> Result<Value> {
        let name = op.name();
        let results = self.apply_all(op, inputs)?;
        results.first().copied().ok_or_else(|| Error::op(name, "has no result"))
    }

    fn push(&mut self, op: Arc<dyn Op>, mut inputs: Vec<Option<Value>>) -> Result<Vec<Value>> {
        let layer = self.layers.join(".");
        let plain = inputs.iter_mut().enumerate().filter(|(i, _)| !op.takes_blocks(*i));
        for (_, input) in plain {
            let weight = input.and_then(|value| self.as_weight(value));
            let blocks = |w: &&Weight| w.meta().format().is_some_and(|f| f.block() > 1);
            if let Some(w) = weight.filter(blocks).map(|w| w.clone().stored_as(Format::F32)) {
                *input = Some(self.weight(w));
            }
        }
        let metas: Vec<_> = inputs.iter().map(|v| v.map(|v| self.meta(v).clone())).collect();
        let metas = op.infer(&metas).map_err(|e| e.in_layer(&layer))?;
        let outputs: Vec<_> = metas.into_iter().map(|m| self.value(Source::Node, m)).collect();
        self.nodes.push(Node { op, inputs, outputs: outputs.clone(), layer });
        Ok(outputs)
    }

    /// Names a result of the whole graph.
    pub fn output(&mut self, name: impl Into<String>, value: Value) {
        self.outputs.push((name.into(), value));
    }

    /// Takes a named result back; it stays a value that nodes may read.
    pub fn take_output(&mut self, name: &str) -> Option<Value> {
        let at = self.outputs.iter().position(|(n, _)| n == name)?;
        Some(self.outputs.remove(at).1)
    }

    /// Shape and dtype of a value.
    pub fn meta(&self, value: Value) -> &SymMeta {
        &self.values[value.0 as usize].meta
    }

    /// The nodes in the order they run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Names and values of the graph's results.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// Names, values and shapes of the inputs.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, Value, &SymMeta)> {
        self.values.iter().enumerate().filter_map(|(i, info)| match &info.source {
            Source::Input(name) => Some((name.as_str(), Value(i as u32), &info.meta)),
            _ => None,
        })
    }

    /// Names, values and shapes of the states.
    pub fn states(&self) -> impl Iterator<Item = (&str, Value, &SymMeta)> {
        self.values.iter().enumerate().filter_map(|(i, info)| match &info.source {
            Source::State(name) => Some((name.as_str(), Value(i as u32), &info.meta)),
            _ => None,
        })
    }

    /// The value of a state after the last op that writes it.
    pub(super) fn last_version(&self, state: Value) -> Value {
        let mut last = state;
        for node in &self.nodes {
            for &(result, operand) in node.op.in_place() {
                if node.inputs.get(operand).copied().flatten() == Some(last)
                    && let Some(next) = node.outputs.get(result)
                {
                    last = *next;
                }
            }
        }
        last
    }

    /// The states that some op writes.
    pub fn written_states(&self) -> impl Iterator<Item = (&str, Value, &SymMeta)> {
        self.states().filter(|(_, value, _)| self.last_version(*value) != *value)
    }

    /// The weights that nodes use, each once.
    pub fn weights(&self) -> Vec<&Weight> {
        let mut seen = vec![false; self.values.len()];
        let used = self.nodes.iter().flat_map(|n| n.inputs.iter().flatten());
        let mut weights = Vec::new();
        for value in used {
            if let Source::Weight(weight) = &self.values[value.0 as usize].source
                && !std::mem::replace(&mut seen[value.0 as usize], true)
            {
                weights.push(weight.as_ref());
            }
        }
        weights
    }

    /// Bytes of the weights that another graph uses too, and that a device holds once.
    pub fn shared_weight_bytes(&self, other: &Self) -> u64 {
        let theirs: Vec<_> = other.weights().into_iter().map(Weight::key).collect();
        let shared = self.weights().into_iter().filter(|w| theirs.contains(&w.key()));
        shared.map(|w| w.meta().bytes() as u64).sum()
    }

    /// What is wrong with the weights read so far, one line each: a NaN or infinity in a
    /// tensor. Complete once the graph has run.
    pub fn warnings(&self) -> Vec<String> {
        let mut found: Vec<_> = self.weights().into_iter().flat_map(Weight::warnings).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    pub(super) fn source(&self, value: Value) -> &Source {
        &self.values[value.0 as usize].source
    }

    pub(super) fn as_weight(&self, value: Value) -> Option<&Weight> {
        match self.source(value) {
            Source::Weight(weight) => Some(weight),
            _ => None,
        }
    }

    /// How a value is called in messages and pictures.
    pub fn describe(&self, value: Value) -> String {
        match self.source(value) {
            Source::Input(name) | Source::State(name) => name.clone(),
            Source::Weight(weight) => weight.name().to_owned(),
            Source::Node => format!("%{}", value.0),
        }
    }

    /// A shape with the symbols' names in it.
    pub fn show_meta(&self, meta: &SymMeta) -> String {
        let dim = |d: &Dim| match d {
            Dim::Const(n) => n.to_string(),
            Dim::Sym(s) => {
                self.symbols.get(usize::from(s.0)).cloned().unwrap_or_else(|| "?".to_owned())
            }
        };
        let dims: Vec<_> = meta.dims.iter().map(dim).collect();
        format!("{}[{}]", meta.dtype, dims.join(", "))
    }

    /// Reads the symbols' values off the inputs' shapes, on top of `base`, and checks every
    /// input's name, dtype and shape.
    pub fn bind_sizes(&self, given: &[(&str, &Tensor)], base: Sizes) -> Result<Sizes> {
        let mut sizes = base;
        let mut known: HashMap<Sym, &str> = HashMap::new();
        for (name, _) in given {
            if !self.inputs().any(|(n, ..)| n == *name) {
                let all: Vec<_> = self.inputs().map(|(n, ..)| n).collect();
                let message = format!("is not an input; the inputs are {}", all.join(", "));
                return Err(Error::tensor(*name, message));
            }
        }
        for (name, _, meta) in self.inputs() {
            let tensor = given.iter().find(|(n, _)| *n == name).map(|(_, t)| *t);
            let tensor = tensor.ok_or_else(|| Error::tensor(name, "this input is missing"))?;
            let dims = tensor.shape();
            let fits = tensor.dtype() == meta.dtype && dims.rank() == meta.dims.len();
            let mismatch = || {
                let message = format!("got {}, expected {}", tensor.meta(), self.show_meta(meta));
                Error::tensor(name, message)
            };
            if !fits {
                return Err(mismatch());
            }
            for (&got, want) in dims.dims().iter().zip(&meta.dims) {
                match want {
                    Dim::Const(n) if *n == got => {}
                    Dim::Const(_) => return Err(mismatch()),
                    Dim::Sym(s) => match known.insert(*s, name) {
                        Some(other) if sizes.get(*s) != got => {
                            let symbol = &self.symbols[usize::from(s.0)];
                            let message = format!(
                                "got {}, but {symbol} is {} in `{other}`",
                                tensor.meta(),
                                sizes.get(*s)
                            );
                            return Err(Error::tensor(name, message));
                        }
                        _ => sizes.set(*s, got),
                    },
                }
            }
        }
        Ok(sizes)
    }
}
