//! Memory: lifetimes of intermediates, slot buffers, exact bytes before anything runs.

use std::collections::BTreeSet;

use super::choose::choose_kernels;
use super::narrow::narrow;
use super::node::{Graph, Source, Value};
use super::policy::Policy;
use crate::error::{Error, Result};
use crate::gpu::Caps;
use crate::ops;
use crate::tensor::{Meta, Sizes};

/// A weight that exceeds the largest binding and is stored in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitWeight {
    /// Its name.
    pub name: String,
    /// Number of parts.
    pub parts: usize,
}

/// Where every value of a graph lives, for sizes up to a capacity.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The largest value of each symbol.
    pub capacity: Sizes,
    /// Bytes of each slot buffer. Intermediates share them by lifetime.
    pub slots: Vec<u64>,
    /// Bytes of all weights.
    pub weights: u64,
    /// Bytes of the input buffers.
    pub inputs: u64,
    /// Bytes kept from step to step: key and value caches.
    pub states: u64,
    /// Bytes of the output buffers, which later steps do not overwrite within a step.
    pub outputs: u64,
    /// Bytes of the host-readable copies of the outputs.
    pub readback: u64,
    /// Bytes of the largest single binding.
    pub largest_binding: u64,
    /// Weights stored in parts.
    pub splits: Vec<SplitWeight>,
    pub(super) places: Vec<Place>,
    /// The slot of each node's scratch memory, where its kernel needs any.
    pub(super) scratch: Vec<Option<usize>>,
}

/// Where one value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    Weight,
    Own,
    /// In the buffer of this state.
    State(Value),
    Slot(usize),
}

/// Bytes a buffer of this size takes: see [`crate::gpu::Buffer::size`].
fn buffer_bytes(meta: &Meta) -> u64 {
    rounded(meta.bytes())
}

fn rounded(bytes: usize) -> u64 {
    bytes.next_multiple_of(4).max(16) as u64
}

impl Plan {
    /// Lays out `graph` for sizes up to `capacity` on a device whose largest storage binding
    /// is `max_binding` bytes. With `keep_all`, every intermediate gets a buffer of its own,
    /// so that all of them can be read back after a step.
    ///
    /// Errors with [`Error::OutOfMemory`] when an intermediate cannot be bound.
    pub fn new(graph: &Graph, capacity: Sizes, max_binding: u64, keep_all: bool) -> Result<Self> {
        Self::with_scratch(graph, capacity, max_binding, keep_all, &[])
    }

    /// The same as a session on such a device would lay it out: [narrowed](narrow), and with the
    /// scratch memory of the kernels that it would choose.
    pub fn of_device(graph: &Graph, capacity: Sizes, caps: &Caps, policy: &Policy) -> Result<Self> {
        let narrowed = narrow(graph, capacity, caps, policy)?;
        let graph = narrowed.as_ref().unwrap_or(graph);
        let choices = choose_kernels(graph, None, caps, capacity, policy)?;
        let scratch: Vec<_> = choices.iter().map(|choice| choice.scratch).collect();
        Self::with_scratch(graph, capacity, caps.max_binding, false, &scratch)
    }

    /// The same with so many bytes of scratch memory for each node, alive while it runs.
    pub(super) fn with_scratch(
        graph: &Graph,
        capacity: Sizes,
        max_binding: u64,
        keep_all: bool,
        scratch: &[usize],
    ) -> Result<Self> {
        let metas = graph
            .values
            .iter()
            .map(|info| info.meta.eval(&capacity))
            .collect::<Result<Vec<_>>>()?;
        let mut plan = Self {
            capacity,
            slots: Vec::new(),
            weights: 0,
            inputs: 0,
            states: 0,
            outputs: 0,
            readback: 0,
            largest_binding: 0,
            splits: Vec::new(),
            places: vec![Place::Nowhere; metas.len()],
            scratch: vec![None; graph.nodes.len()],
        };
        plan.place_fixed(graph, &metas, max_binding)?;
        plan.place_intermediates(graph, &metas, max_binding, keep_all, scratch)?;
        let largest = plan.slots.iter().copied().max().unwrap_or(0);
        plan.largest_binding = plan.largest_binding.max(largest);
        Ok(plan)
    }

    /// Inputs, weights and outputs.
    fn place_fixed(&mut self, graph: &Graph, metas: &[Meta], max_binding: u64) -> Result<()> {
        for (_, value, _) in graph.inputs() {
            let bytes = buffer_bytes(&metas[value.0 as usize]);
            self.bound(graph, value, bytes, max_binding)?;
            self.inputs += bytes;
            self.places[value.0 as usize] = Place::Own;
        }
        for (_, value, _) in graph.states() {
            let bytes = buffer_bytes(&metas[value.0 as usize]);
            self.bound(graph, value, bytes, max_binding)?;
            self.states += bytes;
            self.largest_binding = self.largest_binding.max(bytes);
            self.places[value.0 as usize] = Place::State(value);
        }
        self.place_in_place(graph)?;
        let mut split = BTreeSet::new();
        for node in &graph.nodes {
            for (i, value) in node.inputs.iter().enumerate() {
                let Some((value, weight)) = value.and_then(|v| Some((v, graph.as_weight(v)?)))
                else {
                    continue;
                };
                let meta = weight.meta();
                let rows = ops::rows_per_part(meta, max_binding);
                if rows.is_some() && node.op.splittable() != Some(i) {
                    let message = format!(
                        "weight `{}` {meta} exceeds the largest binding ({max_binding} bytes), \
                         and {} cannot use it in parts",
                        weight.name(),
                        node.op.name()
                    );
                    return Err(Error::OutOfMemory(message));
                }
                let place = &mut self.places[value.0 as usize];
                if *place == Place::Weight {
                    continue;
                }
                *place = Place::Weight;
                let total = meta.shape.dims().first().copied().unwrap_or(1).max(1);
                let taken: Vec<_> = match rows {
                    Some(rows) => ops::parts(total, rows).map(|p| p.rows).collect(),
                    None => vec![total],
                };
                let plane_rows = (0..meta.planes()).map(|p| meta.plane_bytes(p) / total);
                let buffers: Vec<_> = plane_rows
                    .flat_map(|row| taken.iter().map(move |rows| rounded(rows * row)))
                    .collect();
                self.weights += buffers.iter().sum::<u64>();
                let largest = buffers.iter().copied().max().unwrap_or(0);
                if largest > max_binding {
                    let message = format!(
                        "one row of weight `{}` {meta} exceeds the largest binding \
                         ({max_binding} bytes)",
                        weight.name()
                    );
                    return Err(Error::OutOfMemory(message));
                }
                self.largest_binding = self.largest_binding.max(largest);
                if rows.is_some() && split.insert(weight.name()) {
                    let name = weight.name().to_owned();
                    self.splits.push(SplitWeight { name, parts: taken.len() });
                }
            }
        }
        for (_, value) in &graph.outputs {
            let bytes = buffer_bytes(&metas[value.0 as usize]);
            self.readback += bytes;
            let place = &mut self.places[value.0 as usize];
            if *place == Place::Nowhere {
                *place = Place::Own;
                self.outputs += bytes;
                self.bound(graph, *value, bytes, max_binding)?;
            }
        }
        Ok(())
    }

    /// Results that are written over operands live where those do.
    fn place_in_place(&mut self, graph: &Graph) -> Result<()> {
        for node in &graph.nodes {
            for &(result, operand) in node.op.in_place() {
                let operand = node.inputs.get(operand).copied().flatten();
                let place = operand.map(|v| self.places[v.0 as usize]);
                let (Some(value), Some(place @ Place::State(_))) =
                    (node.outputs.get(result), place)
                else {
                    let message = "writes in place, which only a state can be";
                    return Err(Error::op(node.op.name(), message).in_layer(&node.layer));
                };
                self.places[value.0 as usize] = place;
            }
        }
        Ok(())
    }

    /// Best fit over time: a value takes the smallest free slot that holds it, else grows the
    /// largest free one, else opens a new one. A slot is freed after its last reader, so no
    /// dispatch reads and writes one buffer.
    fn place_intermediates(
        &mut self,
        graph: &Graph,
        metas: &[Meta],
        max_binding: u64,
        keep_all: bool,
        scratch: &[usize],
    ) -> Result<()> {
        let last = last_uses(graph);
        let mut free: BTreeSet<usize> = BTreeSet::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            for &value in &node.outputs {
                if self.places[value.0 as usize] != Place::Nowhere {
                    continue;
                }
                let bytes = buffer_bytes(&metas[value.0 as usize]);
                self.bound(graph, value, bytes, max_binding)?;
                let slot = self.take_slot(&mut free, bytes);
                self.places[value.0 as usize] = Place::Slot(slot);
            }
            let needed = scratch.get(index).copied().unwrap_or(0).next_multiple_of(4) as u64;
            if needed > max_binding {
                let (op, layer) = (node.op.name(), &node.layer);
                let message = format!(
                    "{layer} {op} needs {needed} bytes of scratch memory, over the device's \
                     largest binding of {max_binding}; use a smaller batch or shorter input"
                );
                return Err(Error::OutOfMemory(message));
            }
            if needed > 0 {
                // No value of the node may share it, so it is taken before any is freed.
                let slot = self.take_slot(&mut free, needed.max(16));
                self.scratch[index] = Some(slot);
                free.insert(slot);
            }
            if keep_all {
                continue;
            }
            let done = node.inputs.iter().flatten().chain(&node.outputs);
            for value in done.filter(|v| last[v.0 as usize] <= index) {
                if let Place::Slot(slot) = self.places[value.0 as usize] {
                    free.insert(slot);
                }
            }
        }
        Ok(())
    }

    /// Takes the smallest free slot of so many bytes, else grows the largest free one, else opens
    /// a new one.
    fn take_slot(&mut self, free: &mut BTreeSet<usize>, bytes: u64) -> usize {
        let fitting = free.iter().copied().filter(|&s| self.slots[s] >= bytes);
        let best = fitting.min_by_key(|&s| self.slots[s]);
        let slot = best.or_else(|| free.iter().copied().max_by_key(|&s| self.slots[s]));
        let slot = slot.unwrap_or_else(|| {
            self.slots.push(0);
            self.slots.len() - 1
        });
        free.remove(&slot);
        self.slots[slot] = self.slots[slot].max(bytes);
        slot
    }

    fn bound(&self, graph: &Graph, value: Value, bytes: u64, max_binding: u64) -> Result<()> {
        if bytes <= max_binding {
            return Ok(());
        }
        let shape = graph.show_meta(graph.meta(value));
        let producer = graph.nodes.iter().find(|n| n.outputs.contains(&value));
        let of = producer.map_or_else(
            || graph.describe(value),
            |n| format!("{} {}", n.layer, n.op.name()).trim().to_owned(),
        );
        Err(Error::OutOfMemory(format!(
            "{of} {shape} would take {bytes} bytes, over the device's largest binding of \
             {max_binding}; use a smaller batch or shorter input"
        )))
    }

    /// Bytes of device memory in all.
    pub fn total(&self) -> u64 {
        let working = self.slots.iter().sum::<u64>() + self.inputs + self.outputs + self.readback;
        self.weights + self.states + working
    }

    /// Bytes of intermediates: what grows with batch and tokens.
    pub fn intermediates(&self) -> u64 {
        self.slots.iter().sum()
    }
}

/// Index of the last node that reads each value; its own node if none does.
fn last_uses(graph: &Graph) -> Vec<usize> {
    let mut last = vec![0; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for value in node.outputs.iter().chain(node.inputs.iter().flatten()) {
            last[value.0 as usize] = index;
        }
    }
    debug_assert!(
        graph.values.iter().all(|v| !matches!(v.source, Source::Node) || !last.is_empty())
    );
    last
}
