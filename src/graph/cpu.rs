//! The same graph on the CPU, node by node through the ops' own routes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::node::{Graph, Node, Source, Value};
use super::state::HostStates;
use super::weight::Weight;
use crate::error::{Error, Result};
use crate::ops::Args;
use crate::tensor::{DType, Sizes, Tensor};

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

/// Runs a graph without states on the CPU and gives its named outputs.
pub fn run_cpu(
    graph: &Graph,
    weights: &HostWeights,
    inputs: &[(&str, &Tensor)],
    base: Sizes,
) -> Result<BTreeMap<String, Tensor>> {
    step_cpu(graph, weights, &HostStates::default(), inputs, base)
}

/// Runs one step of a graph on the CPU: reads and changes `states`, gives the named outputs.
/// Sizes that no input's shape tells are taken from `base`.
pub fn step_cpu(
    graph: &Graph,
    weights: &HostWeights,
    states: &HostStates,
    inputs: &[(&str, &Tensor)],
    base: Sizes,
) -> Result<BTreeMap<String, Tensor>> {
    let mut last = vec![usize::MAX; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|v| last[v.0 as usize] = index);
    }
    for (_, value) in &graph.outputs {
        last[value.0 as usize] = usize::MAX;
    }
    // A state's last version goes back where it came from.
    for (_, state, _) in graph.states() {
        last[graph.last_version(state).0 as usize] = usize::MAX;
    }
    let mut values = walk(graph, weights, states, inputs, base, |index, node, _, values| {
        for value in node.inputs.iter().flatten().filter(|v| last[v.0 as usize] == index) {
            values.remove(value);
        }
        Ok(())
    })?;
    for (name, state, _) in graph.states() {
        let missing = || Error::tensor(name, "was lost in a step");
        let tensor = values.remove(&graph.last_version(state)).ok_or_else(missing)?;
        states.put(name, Arc::unwrap_or_clone(tensor));
    }
    let mut outputs = BTreeMap::new();
    for (position, (name, value)) in graph.outputs.iter().enumerate() {
        let again = graph.outputs[position + 1..].iter().any(|(_, v)| v == value);
        let taken = if again { values.get(value).cloned() } else { values.remove(value) };
        let tensor = taken.ok_or_else(|| Error::tensor(name, "was not computed"))?;
        outputs.insert(name.clone(), Arc::unwrap_or_clone(tensor));
    }
    Ok(outputs)
}

/// Runs a graph on the CPU and shows every node to `visit`, in order, with its operands (absent
/// where it writes over them) and results.
pub fn trace_cpu(
    graph: &Graph,
    weights: &HostWeights,
    inputs: &[(&str, &Tensor)],
    base: Sizes,
    mut visit: impl FnMut(&Node, &Args<'_>, &[Arc<Tensor>]) -> Result<()>,
) -> Result<()> {
    walk(graph, weights, &HostStates::default(), inputs, base, |_, node, args, values| {
        let results: Vec<_> = node.outputs.iter().filter_map(|v| values.get(v).cloned()).collect();
        visit(node, args, &results)
    })?;
    Ok(())
}

type Values = HashMap<Value, Arc<Tensor>>;

fn walk(
    graph: &Graph,
    weights: &HostWeights,
    states: &HostStates,
    inputs: &[(&str, &Tensor)],
    base: Sizes,
    mut after: impl FnMut(usize, &Node, &Args<'_>, &mut Values) -> Result<()>,
) -> Result<Values> {
    let sizes = graph.bind_sizes(inputs, base)?;
    let mut values = Values::new();
    for (name, value, _) in graph.inputs() {
        if let Some((_, tensor)) = inputs.iter().find(|(n, _)| *n == name) {
            values.insert(value, Arc::new((*tensor).clone()));
        }
    }
    for (name, value, meta) in graph.states() {
        values.insert(value, Arc::new(states.take(name, meta.eval(&sizes)?)?));
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let in_place = node.op.in_place();
        let mut written = Vec::with_capacity(in_place.len());
        for &(_, operand) in in_place {
            let value = node.inputs.get(operand).copied().flatten();
            let tensor = value.and_then(|v| values.remove(&v));
            let gone = || Error::op(node.op.name(), "its state is gone").in_layer(&node.layer);
            written.push(Arc::unwrap_or_clone(tensor.ok_or_else(gone)?));
        }
        let operands = node
            .inputs
            .iter()
            .enumerate()
            .map(|(i, value)| match value {
                None => Ok(None),
                Some(_) if in_place.iter().any(|(_, operand)| *operand == i) => Ok(None),
                Some(value) => match graph.source(*value) {
                    Source::Weight(weight) => weights.get(weight).map(Some),
                    _ => values.get(value).cloned().map(Some).ok_or_else(|| {
                        Error::op(node.op.name(), format!("{} is gone", graph.describe(*value)))
                    }),
                },
            })
            .collect::<Result<Vec<_>>>()?;
        let tensors: Vec<_> = operands.iter().map(Option::as_deref).collect();
        let args = Args { op: node.op.name(), tensors: &tensors, sizes: &sizes };
        let results = if in_place.is_empty() {
            node.op.run_cpu(&args)
        } else {
            node.op.update_cpu(&args, &mut written).map(|()| written)
        };
        let results = results.map_err(|e| e.in_layer(&node.layer))?;
        values.extend(node.outputs.iter().copied().zip(results.into_iter().map(Arc::new)));
        after(index, node, &args, &mut values)?;
    }
    Ok(values)
}
