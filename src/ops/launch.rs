//! A chosen kernel made ready on a device: compiled, bound and recorded in one way for the eager
//! path, for sessions and for tuning.

use std::sync::Arc;

use super::kernel::{Dispatch, Part};
use super::op::{Call, Kernel, Op};
use crate::error::Result;
use crate::format::Format;
use crate::gpu::{BindGroup, Buffer, Gpu, Pass, Pipeline};

/// What a binding of a kernel refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Operand by position; its first plane where it has several.
    Input(usize),
    /// A further plane, from 1 on, of the operand at this position.
    Plane(usize, usize),
    /// Result by position.
    Output(usize),
    /// Memory alive for the call only.
    Scratch,
}

/// The pipelines of a kernel's stages for one variant of a call.
pub struct Compiled {
    kernel: &'static dyn Kernel,
    pipelines: Vec<Arc<Pipeline>>,
}

impl Compiled {
    /// Compiles every stage; equal variants are compiled once per device.
    pub fn new(gpu: &Gpu, kernel: &'static dyn Kernel, call: &Call<'_>) -> Result<Self> {
        let stages = kernel.stages().iter().enumerate();
        let pipelines = stages
            .map(|(i, stage)| {
                let spec = kernel.spec(i, call)?;
                gpu.pipeline(stage.source, &spec, stage.params, stage.trusted)
            })
            .collect::<Result<_>>()?;
        Ok(Self { kernel, pipelines })
    }

    /// Binds buffers: `find` gives the buffer of a slot for the part of that index. An absent
    /// operand may have none.
    pub fn bind<'a>(
        self,
        gpu: &Gpu,
        op: &dyn Op,
        parts: &[Option<Part>],
        find: impl Fn(Slot, usize) -> Option<&'a Buffer>,
    ) -> Result<Launch> {
        let (inputs, outputs) = (op.inputs(), op.outputs());
        // An absent operand's binding is never read; any buffer that is only read will do.
        let written = |i: usize| op.in_place().iter().any(|&(_, operand)| operand == i);
        let dummy = |part| {
            (0..inputs.len()).filter(|&i| !written(i)).find_map(|i| find(Slot::Input(i), part))
        };
        let lookup = |name: &str, part: usize| {
            if name == "scratch" {
                return find(Slot::Scratch, part);
            }
            if let Some(o) = outputs.iter().position(|n| *n == name) {
                return find(Slot::Output(o), part);
            }
            find(operand(inputs, name)?, part).or_else(|| dummy(part))
        };
        let bind = |(index, &part): (usize, &Option<Part>)| {
            let groups = self.pipelines.iter().map(|p| gpu.bind(p, |name| lookup(name, index)));
            Ok((part, groups.collect::<Result<_>>()?))
        };
        let parts = parts.iter().enumerate().map(bind).collect::<Result<_>>()?;
        Ok(Launch { kernel: self.kernel, pipelines: self.pipelines, parts })
    }
}

/// The slot of an operand's binding: its name, or its name with a plane's suffix.
pub(super) fn operand(inputs: &[&str], name: &str) -> Option<Slot> {
    let position = |name: &str| inputs.iter().position(|n| *n == name);
    position(name).map(Slot::Input).or_else(|| {
        let plane = Format::Q8_0.planes().iter().enumerate().skip(1);
        plane
            .filter_map(|(plane, p)| Some((plane, name.strip_suffix(p.suffix)?)))
            .find_map(|(plane, of)| Some(Slot::Plane(position(of)?, plane)))
    })
}

/// A kernel with its buffers: what a step records.
pub struct Launch {
    kernel: &'static dyn Kernel,
    pipelines: Vec<Arc<Pipeline>>,
    /// Bind groups by stage, once per part of a split operand.
    parts: Vec<(Option<Part>, Vec<BindGroup>)>,
}

impl Launch {
    /// The kernel.
    pub fn kernel(&self) -> &'static dyn Kernel {
        self.kernel
    }

    /// Parameters and grids of all its dispatches for one call, replacing what `out` held. The
    /// order is [`record`](Self::record)'s: part by part, stage by stage.
    pub fn prepare(&self, call: &Call<'_>, out: &mut Vec<Dispatch>) -> Result<()> {
        out.clear();
        for (part, groups) in &self.parts {
            let call = Call { part: *part, ..*call };
            for stage in 0..groups.len() {
                out.push(self.kernel.dispatch(stage, &call)?);
            }
        }
        Ok(())
    }

    /// Records the dispatches that [`prepare`](Self::prepare) gave.
    pub fn record(&self, pass: &mut Pass<'_>, dispatches: &[Dispatch]) {
        let stages = self.parts.iter().flat_map(|(_, groups)| self.pipelines.iter().zip(groups));
        for ((pipeline, bindings), dispatch) in stages.zip(dispatches) {
            pass.dispatch(pipeline, bindings, &dispatch.params, dispatch.grid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_plane_is_bound_by_its_operands_name_and_a_suffix() {
        let inputs = ["x", "weight", "x_scale"];
        assert_eq!(operand(&inputs, "weight"), Some(Slot::Input(1)));
        assert_eq!(operand(&inputs, "weight_scale"), Some(Slot::Plane(1, 1)));
        // An operand's own name comes first.
        assert_eq!(operand(&inputs, "x_scale"), Some(Slot::Input(2)));
        assert_eq!(operand(&inputs, "bias_scale"), None);
    }
}
