//! The same graph run by two executors, compared node by node.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::device::Device;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Progress, SessionOptions};
use crate::ops::Precision;
use crate::tensor::{DType, Sizes, Tensor};

/// How far one node's first result is from the CPU's.
#[derive(Clone, Debug)]
pub struct NodeCheck {
    /// The node's layer.
    pub layer: String,
    /// Its op.
    pub op: &'static str,
    /// The kernel that ran it on the device.
    pub kernel: &'static str,
    /// Whether this node or one before it lost digits by request: see [`Precision::Fast`].
    pub precision: Precision,
    /// How the device stores its result: f16 where it was narrowed.
    pub stored: DType,
    /// Largest absolute difference; infinite if a NaN differs.
    pub max_abs: f64,
    /// Largest absolute value on the CPU.
    pub scale: f64,
}

/// Largest difference allowed, relative to the scale of a node's result. f32 rounding grows
/// with depth; goldens of two-layer models agree to 1e-6, deep ones to a few 1e-6.
pub const TOLERANCE: f64 = 5e-5;

/// The same from the first value in f16, or product of such, on. Each rounds its operands by 2^-11; in a sum of
/// many that averages out, and layers on top of each other add up.
pub const FAST_TOLERANCE: f64 = 2e-2;

impl NodeCheck {
    /// Largest difference allowed, relative to the scale.
    pub fn tolerance(&self) -> f64 {
        match self.precision {
            Precision::Exact => TOLERANCE,
            Precision::Fast => FAST_TOLERANCE,
        }
    }

    /// Whether the node is within its [`tolerance`](Self::tolerance).
    pub fn passed(&self) -> bool {
        self.max_abs <= self.tolerance() * self.scale.max(1e-3)
    }
}

/// Runs `graph` on `device` and on the CPU and compares every node, in order.
pub fn verify(
    graph: &Arc<Graph>,
    device: Device,
    inputs: &[(&str, &Tensor)],
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Vec<NodeCheck>> {
    let sizes = graph.bind_sizes(inputs, Sizes::default())?;
    let options = SessionOptions { keep_all: true, ..SessionOptions::default() };
    let mut run = |device: Device| {
        let session = device.session(graph, sizes, &options, &mut *progress)?;
        session.step(inputs, &sizes, Some(&[]))?;
        Ok::<_, Error>(session)
    };
    let (device, reference) = (run(device)?, run(Device::cpu())?);
    let mut precision = Precision::Exact;
    let check = |(index, node): (usize, &Node)| {
        let kernel = device.kernel(index, &sizes)?;
        precision = kernel.map_or(precision, |kernel| precision.max(kernel.precision()));
        if device.graph().narrows(node) {
            precision = Precision::Fast;
        }
        let kernel = kernel.map_or("cpu", |kernel| kernel.name());
        let missing = || Error::op(node.op.name(), "has no result");
        let value = *node.outputs.first().ok_or_else(missing)?;
        let (got, want) = (device.value(value, &sizes)?, reference.value(value, &sizes)?);
        let (max_abs, scale) = difference(&got, &want)?;
        let (layer, op, stored) = (node.layer.clone(), node.op.name(), got.dtype());
        Ok(NodeCheck { layer, op, kernel, precision, stored, max_abs, scale })
    };
    graph.nodes().iter().enumerate().map(check).collect()
}

fn difference(got: &Tensor, want: &Tensor) -> Result<(f64, f64)> {
    if let (Ok(got), Ok(want)) = (got.as_u32(), want.as_u32()) {
        // Ids and positions are right or wrong.
        let wrong = got != want;
        return Ok((if wrong { f64::INFINITY } else { 0.0 }, 1.0));
    }
    let (got, want) = (got.to_f32()?, want.to_f32()?);
    let (mut max_abs, mut scale) = (0.0f64, 0.0f64);
    for (g, w) in got.iter().zip(want.iter()) {
        let d = (f64::from(*g) - f64::from(*w)).abs();
        max_abs = max_abs.max(if d.is_nan() { f64::INFINITY } else { d });
        scale = scale.max(f64::from(w.abs()));
    }
    Ok((max_abs, scale))
}
