//! Few rows of x: a workgroup for 8 columns of the result, lanes side by side along k.

use super::launch::{self, Params};
use crate::error::Result;
use crate::gpu::Spec;
use crate::ops::kernel::{Dispatch, Stage};
use crate::ops::op::{Call, Kernel};

/// Columns of the result per workgroup, as in the shader.
const COLUMNS: u32 = 8;

/// `shaders/matmul_gemv.wgsl` with so many rows of x per workgroup.
pub(super) struct Gemv {
    name: &'static str,
    rows: u32,
    stages: [Stage; 1],
}

impl Gemv {
    pub const fn new(name: &'static str, rows: u32) -> Self {
        let stages = [Stage::trusted(crate::shader!("matmul_gemv"), Params::FIELDS)];
        Self { name, rows, stages }
    }
}

impl Kernel for Gemv {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn fits(&self, call: &Call<'_>) -> bool {
        launch::shape(call).is_ok_and(|(op, s, _)| {
            !op.layout.x_transposed() && op.layout.w_transposed() && s.k.is_multiple_of(8)
        })
    }

    fn rank(&self, call: &Call<'_>) -> f32 {
        let m = launch::shape(call).map_or(0, |(_, s, _)| s.m);
        match (self.rows as usize >= m, self.rows) {
            (true, 1) => 0.0,
            // On a CPU's vector units the subgroup kernels are ahead.
            (true, _) => 5.0,
            // The weights are read again for every `rows` rows.
            (false, _) => 100.0 + m as f32 / self.rows as f32,
        }
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        let (op, ..) = launch::shape(call)?;
        let [eight, ..] = launch::weight_accessors(call);
        let spec = launch::epilogue(op, call).import("weight8_f32", eight).set("ROWS", self.rows);
        Ok(match call.caps.subgroup {
            Some(size) => spec.import("reduce_workgroup", "reduce_subgroup").set("THREADS", size),
            None => spec,
        })
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        launch::dispatch(call, self.rows, COLUMNS)
    }
}
