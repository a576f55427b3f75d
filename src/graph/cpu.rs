//! The same graph on the CPU, node by node through the ops' own routes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::executor::{Ahead, Executor};
use super::node::{Graph, Node, Source, Value};
use super::options::SessionOptions;
use super::profile::NodeTime;
use super::state::{States, permuted};
use super::weight::Weight;
use crate::error::{Error, Result};
use crate::gpu::Clock;
use crate::ops::{Args, Kernel};
use crate::tensor::{DType, Shape, Sizes, SymMeta, Tensor};

/// A model's weights in host memory, loaded at first use.
#[derive(Default)]
pub struct HostWeights {
    loaded: Mutex<HashMap<(String, DType), Arc<Tensor>>>,
}

impl HostWeights {
    /// The weight's values, as it is stored.
    pub fn get(&self, weight: &Weight) -> Result<Arc<Tensor>> {
        let key = weight.key();
        let lock = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&key) {
            return Ok(Arc::clone(found));
        }
        let tensor = Arc::new(weight.tensor()?);
        Ok(Arc::clone(lock().entry(key).or_insert(tensor)))
    }
}

type Values = HashMap<Value, Arc<Tensor>>;

/// A graph on the CPU: every op's own route, in the graph's order. There is no capacity; memory
/// is taken as a step needs it.
///
/// Steps of a graph without states can run at the same time.
pub struct HostSession {
    graph: Arc<Graph>,
    weights: Arc<HostWeights>,
    states: Arc<States>,
    /// For each value the last node that reads it, after which it is dropped; `usize::MAX` for
    /// those that outlive a step.
    last: Vec<usize>,
    keep_all: bool,
    /// What inputs were last, for the steps that are not given them.
    inputs: Mutex<Values>,
    /// Every value of the last step, with `keep_all`.
    kept: Mutex<Values>,
}

impl HostSession {
    /// A session on these weights, which are read as the first step needs them.
    pub fn new(graph: Arc<Graph>, weights: &Arc<HostWeights>, options: &SessionOptions) -> Self {
        let mut last = vec![usize::MAX; graph.values.len()];
        for (index, node) in graph.nodes.iter().enumerate().filter(|_| !options.keep_all) {
            node.inputs.iter().flatten().for_each(|v| last[v.0 as usize] = index);
        }
        for (_, value) in &graph.outputs {
            last[value.0 as usize] = usize::MAX;
        }
        // A state's last version goes back where it came from.
        for (_, state, _) in graph.states() {
            last[graph.last_version(state).0 as usize] = usize::MAX;
        }
        Self {
            weights: Arc::clone(weights),
            states: options.states.clone().unwrap_or_default(),
            last,
            keep_all: options.keep_all,
            inputs: Mutex::default(),
            kept: Mutex::default(),
            graph,
        }
    }

    /// Keeps what was given, and gives all inputs of a step of these sizes.
    fn bind(&self, given: &[(&str, &Tensor)], sizes: &Sizes) -> Result<Values> {
        let given = self.check(given, sizes)?;
        // Under one lock: steps of other threads bring inputs of their own.
        let mut kept = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(given);
        for (name, value, meta) in self.graph.inputs() {
            let missing = || Error::tensor(name, "this input is missing");
            check_input(name, kept.get(&value).ok_or_else(missing)?, meta, sizes)?;
        }
        Ok(kept.clone())
    }

    fn check(&self, given: &[(&str, &Tensor)], sizes: &Sizes) -> Result<Vec<(Value, Arc<Tensor>)>> {
        let checked = given.iter().map(|(name, tensor)| {
            let Some((_, value, meta)) = self.graph.inputs().find(|(n, ..)| n == name) else {
                let all: Vec<_> = self.graph.inputs().map(|(n, ..)| n).collect();
                let message = format!("is not an input; the inputs are {}", all.join(", "));
                return Err(Error::tensor(*name, message));
            };
            check_input(name, tensor, meta, sizes)?;
            Ok((value, Arc::new((*tensor).clone())))
        });
        checked.collect()
    }

    /// Runs every node on `values`, which holds the inputs, and leaves what outlives the step.
    fn walk(&self, mut values: Values, sizes: &Sizes) -> Result<Values> {
        for (name, value, meta) in self.graph.states() {
            values.insert(value, Arc::new(self.states.take(name, meta.eval(sizes)?)?));
        }
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let results =
                self.node(node, &mut values, sizes).map_err(|e| e.in_layer(&node.layer))?;
            values.extend(node.outputs.iter().copied().zip(results.into_iter().map(Arc::new)));
            for value in node.inputs.iter().flatten() {
                if self.last[value.0 as usize] == index {
                    values.remove(value);
                }
            }
        }
        Ok(values)
    }

    fn node(&self, node: &Node, values: &mut Values, sizes: &Sizes) -> Result<Vec<Tensor>> {
        let in_place = node.op.in_place();
        let mut written = Vec::with_capacity(in_place.len());
        for &(_, operand) in in_place {
            let value = node.inputs.get(operand).copied().flatten();
            let tensor = value.and_then(|v| values.remove(&v));
            let gone = || Error::op(node.op.name(), "its state is gone");
            written.push(Arc::unwrap_or_clone(tensor.ok_or_else(gone)?));
        }
        let operands = node
            .inputs
            .iter()
            .enumerate()
            .map(|(i, value)| match value {
                None => Ok(None),
                Some(_) if in_place.iter().any(|(_, operand)| *operand == i) => Ok(None),
                Some(value) => match self.graph.source(*value) {
                    Source::Weight(weight) => self.weights.get(weight).map(Some),
                    _ => values.get(value).cloned().map(Some).ok_or_else(|| {
                        let message = format!("{} is gone", self.graph.describe(*value));
                        Error::op(node.op.name(), message)
                    }),
                },
            })
            .collect::<Result<Vec<_>>>()?;
        let tensors: Vec<_> = operands.iter().map(Option::as_deref).collect();
        let args = Args { op: node.op.name(), tensors: &tensors, sizes };
        if in_place.is_empty() {
            return node.op.run_cpu(&args);
        }
        let mut others = node.op.update_cpu(&args, &mut written)?.into_iter();
        let mut written: Vec<_> = written.into_iter().map(Some).collect();
        let result = |i| match in_place.iter().position(|(result, _)| *result == i) {
            Some(state) => written[state].take(),
            None => others.next(),
        };
        let results: Option<_> = (0..node.outputs.len()).map(result).collect();
        results.ok_or_else(|| Error::op(node.op.name(), "gave too few results"))
    }
}

impl Executor for HostSession {
    fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    fn capacity(&self) -> Option<Sizes> {
        None
    }

    fn kernel(&self, _node: usize, _sizes: &Sizes) -> Result<Option<&'static dyn Kernel>> {
        Ok(None)
    }

    fn step(
        &self,
        inputs: &[(&str, &Tensor)],
        sizes: &Sizes,
        wanted: Option<&[&str]>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let mut values = self.walk(self.bind(inputs, sizes)?, sizes)?;
        let mut take = |value: Value, again: bool| match again || self.keep_all {
            true => values.get(&value).cloned(),
            false => values.remove(&value),
        };
        // Outputs first: a graph may give a state out.
        let mut outputs = BTreeMap::new();
        let states: Vec<_> =
            self.graph.states().map(|(name, s, _)| (name, self.graph.last_version(s))).collect();
        for (position, (name, value)) in self.graph.outputs.iter().enumerate() {
            if wanted.is_some_and(|wanted| !wanted.contains(&name.as_str())) {
                continue;
            }
            let later = self.graph.outputs[position + 1..].iter().any(|(_, v)| v == value);
            let tensor = take(*value, later || states.iter().any(|(_, s)| s == value));
            let tensor = tensor.ok_or_else(|| Error::tensor(name, "was not computed"))?;
            outputs.insert(name.clone(), Arc::unwrap_or_clone(tensor));
        }
        for (name, value) in states {
            let missing = || Error::tensor(name, "was lost in a step");
            self.states.put(name, Arc::unwrap_or_clone(take(value, false).ok_or_else(missing)?));
        }
        if self.keep_all {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = values;
        }
        Ok(outputs)
    }

    fn write(&self, inputs: &[(&str, &Tensor)], sizes: &Sizes) -> Result<()> {
        let given = self.check(inputs, sizes)?;
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner).extend(given);
        Ok(())
    }

    fn value(&self, value: Value, _: &Sizes) -> Result<Tensor> {
        if let Source::Weight(weight) = self.graph.source(value) {
            return self.weights.get(weight).map(Arc::unwrap_or_clone);
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = || Error::tensor(self.graph.describe(value), "was not kept");
        kept.get(&value).map(|tensor| tensor.as_ref().clone()).ok_or_else(missing)
    }

    fn permute(&self, rows: &[usize], sizes: &Sizes) -> Result<()> {
        for (name, _, meta) in self.graph.written_states() {
            let tensor = self.states.take(name, meta.eval(sizes)?)?;
            // A row that does not exist changes nothing.
            let (tensor, result) = match permuted(name, &tensor, rows) {
                Ok(permuted) => (permuted, Ok(())),
                Err(error) => (tensor, Err(error)),
            };
            self.states.put(name, tensor);
            result?;
        }
        Ok(())
    }

    fn profile_step(&self, _: &[(&str, &Tensor)], _: &Sizes) -> Result<(Vec<NodeTime>, Clock)> {
        Err(Error::Argument("the CPU path has no device clock to profile".to_owned()))
    }

    fn ahead(self: Arc<Self>, from: &str, to: &str, _: usize) -> Result<Box<dyn Ahead>> {
        if !self.graph.outputs.iter().any(|(name, _)| name == from) {
            return Err(Error::tensor(from, "is not an output of this graph"));
        }
        let Some((_, to, meta)) = self.graph.inputs().find(|(name, ..)| *name == to) else {
            return Err(Error::tensor(to, "is not an input of this graph"));
        };
        let (from, rank) = (from.to_owned(), meta.dims.len());
        Ok(Box::new(HostAhead { session: self, from, to, rank, ready: None, deepest: 0 }))
    }
}

/// A loop around a [`HostSession`]: a step is over when it is submitted.
struct HostAhead {
    session: Arc<HostSession>,
    from: String,
    to: Value,
    /// Dimensions of `to`.
    rank: usize,
    ready: Option<Vec<u32>>,
    deepest: usize,
}

impl Ahead for HostAhead {
    fn is_full(&self) -> bool {
        self.ready.is_some()
    }

    fn deepest(&self) -> usize {
        self.deepest
    }

    fn submit(&mut self, sizes: &Sizes) -> Result<()> {
        if self.is_full() {
            let message = "a result must be taken before the next step";
            return Err(Error::Argument(message.to_owned()));
        }
        let mut outputs = self.session.step(&[], sizes, Some(&[&self.from]))?;
        let missing = || Error::tensor(&self.from, "was not computed");
        let result = outputs.remove(&self.from).ok_or_else(missing)?;
        self.ready = Some(result.as_u32()?.to_vec());
        self.deepest = 1;
        // One element a row, whatever the rank: [batch, 1].
        let mut dims = vec![1; self.rank.max(1)];
        dims[0] = result.shape().numel();
        let next = Arc::new(result.reshape(Shape::new(&dims)?)?);
        let mut inputs = self.session.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        inputs.insert(self.to, next);
        Ok(())
    }

    fn take(&mut self, _: &Sizes) -> Result<Option<Vec<u32>>> {
        Ok(self.ready.take())
    }
}

fn check_input(name: &str, tensor: &Tensor, meta: &SymMeta, sizes: &Sizes) -> Result<()> {
    let (got, wanted) = (tensor.meta(), meta.eval(sizes)?);
    if got != wanted {
        return Err(Error::tensor(name, format!("got {got}, expected {wanted}")));
    }
    Ok(())
}
