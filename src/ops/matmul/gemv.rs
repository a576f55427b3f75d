//! Few rows of x: a workgroup for 8 columns of the result, lanes side by side along k.

use super::launch::{self, Params};
use crate::error::Result;
use crate::gpu::Spec;
use crate::ops::kernel::{Dispatch, Stage};
use crate::ops::op::{Call, Kernel};
use crate::ops::rounds;

/// Columns of the result per workgroup, as in the shader.
const COLUMNS: u32 = 8;

/// Invocations of a workgroup without subgroups, as in `shaders/shared/reduce_workgroup.wgsl`.
const THREADS: u32 = 64;

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
            let layout = !op.layout.x_transposed() && op.layout.w_transposed();
            layout && s.k.is_multiple_of(8) && s.m <= self.rows as usize
        })
    }

    fn rank(&self, _call: &Call<'_>) -> f32 {
        // With several rows the subgroup kernels are ahead on a CPU's vector units.
        if self.rows == 1 { 0.0 } else { 5.0 }
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        let (op, ..) = launch::shape(call)?;
        let [eight, ..] = launch::weight_accessors(call);
        let [four, _] = launch::x_accessors(call);
        let spec = launch::epilogue(op, call)
            .import("x_f32", four)
            .import("weight8_f32", eight)
            .set("ROWS", self.rows);
        Ok(match call.caps.subgroup {
            Some(size) => spec.import("reduce_workgroup", "reduce_subgroup").set("THREADS", size),
            None => spec,
        })
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        launch::dispatch(call, self.rows, COLUMNS)
    }

    fn rounds(&self, _stage: usize, call: &Call<'_>) -> Result<u64> {
        let (_, s, _) = launch::shape(call)?;
        let (threads, reduction) = match call.caps.subgroup {
            Some(size) => (size, 0),
            None => (THREADS, rounds::of_tree(THREADS)),
        };
        let sums = self.rows * COLUMNS;
        let walk = rounds::of_loop(s.k.div_ceil(8 * threads as usize), 0);
        let epilogue = rounds::of_loop(sums.div_ceil(threads) as usize, 0);
        Ok(walk + u64::from(sums) * reduction + epilogue)
    }
}
