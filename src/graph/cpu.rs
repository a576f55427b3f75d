//! The same graph on the CPU, node by node through the ops' own routes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::node::{Graph, Node, Source, Value};
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

/// Runs a graph on the CPU and gives its named outputs.
pub fn run_cpu(
    graph: &Graph,
    weights: &HostWeights,
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
    let mut values = walk(graph, weights, inputs, base, |index, node, values| {
        for value in node.inputs.iter().flatten().filter(|v| last[v.0 as usize] == index) {
            values.remove(value);
        }
        Ok(())
    })?;
    let mut outputs = BTreeMap::new();
    for (position, (name, value)) in graph.outputs.iter().enumerate() {
        let again = graph.outputs[position + 1..].iter().any(|(_, v)| v == value);
        let taken = if again { values.get(value).cloned() } else { values.remove(value) };
        let tensor = taken.ok_or_else(|| Error::tensor(name, "was not computed"))?;
        outputs.insert(name.clone(), Arc::unwrap_or_clone(tensor));
    }
    Ok(outputs)
}

/// Runs a graph on the CPU and shows every node's results to `visit`, in order.
pub fn trace_cpu(
    graph: &Graph,
    weights: &HostWeights,
    inputs: &[(&str, &Tensor)],
    base: Sizes,
    mut visit: impl FnMut(&Node, &[Arc<Tensor>]) -> Result<()>,
) -> Result<()> {
    walk(graph, weights, inputs, base, |_, node, values| {
        let results: Vec<_> = node.outputs.iter().filter_map(|v| values.get(v).cloned()).collect();
        visit(node, &results)
    })?;
    Ok(())
}

type Values = HashMap<Value, Arc<Tensor>>;

fn walk(
    graph: &Graph,
    weights: &HostWeights,
    inputs: &[(&str, &Tensor)],
    base: Sizes,
    mut after: impl FnMut(usize, &Node, &mut Values) -> Result<()>,
) -> Result<Values> {
    let sizes = graph.bind_sizes(inputs, base)?;
    let mut values = Values::new();
    for (name, value, _) in graph.inputs() {
        if let Some((_, tensor)) = inputs.iter().find(|(n, _)| *n == name) {
            values.insert(value, Arc::new((*tensor).clone()));
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let operands = node
            .inputs
            .iter()
            .map(|value| match value {
                None => Ok(None),
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
        let results = node.op.run_cpu(&args).map_err(|e| e.in_layer(&node.layer))?;
        values.extend(node.outputs.iter().copied().zip(results.into_iter().map(Arc::new)));
        after(index, node, &mut values)?;
    }
    Ok(values)
}
