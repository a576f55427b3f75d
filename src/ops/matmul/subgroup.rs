//! For drivers that compute on the CPU: a tile per subgroup, whose lanes are a vector unit's.

use super::launch::{self, Params};
use crate::error::Result;
use crate::gpu::Spec;
use crate::ops::kernel::{Dispatch, Needs, Stage};
use crate::ops::op::{Call, Kernel};
use crate::ops::rounds;

/// Rows from which the tallest tile wins whatever the remainder.
const TALL_ROWS: usize = 384;

/// `shaders/matmul_subgroup.wgsl` with 8 `blocks` rows by 8 columns per lane.
pub(super) struct Subgroup {
    name: &'static str,
    blocks: u32,
    stages: [Stage; 1],
}

impl Subgroup {
    pub const fn new(name: &'static str, blocks: u32) -> Self {
        let stages = [Stage::trusted(crate::shader!("matmul_subgroup"), Params::FIELDS)];
        Self { name, blocks, stages }
    }
}

impl Kernel for Subgroup {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> Needs {
        Needs { subgroup: Some((4, 8)), software: true, ..Needs::NOTHING }
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn fits(&self, call: &Call<'_>) -> bool {
        launch::shape(call).is_ok_and(|(.., quads)| quads)
    }

    fn rank(&self, call: &Call<'_>) -> f32 {
        let m = launch::shape(call).map_or(0, |(_, s, _)| s.m);
        match self.blocks {
            5 if m >= TALL_ROWS => 3.0,
            5 => 20.0,
            4 => 4.0,
            blocks if m <= 8 * blocks as usize => blocks as f32,
            // Short tiles read the weights more often.
            blocks => 30.0 - blocks as f32,
        }
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        let (op, ..) = launch::shape(call)?;
        let [_, four, _] = launch::weight_accessors(call);
        let [x_four, _] = launch::x_accessors(call);
        Ok(launch::epilogue(op, call)
            .import("x_f32", x_four)
            .import("weight_f32", four)
            .set("W_TRANSPOSED", op.layout.w_transposed())
            .set("ROW_BLOCKS", self.blocks)
            .set("SUBGROUP", call.caps.subgroup.unwrap_or(8)))
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        launch::dispatch(call, 8 * self.blocks, 8 * call.caps.subgroup.unwrap_or(8))
    }

    fn rounds(&self, _stage: usize, call: &Call<'_>) -> Result<u64> {
        let (_, s, _) = launch::shape(call)?;
        let epilogue = rounds::of_loop(8 * self.blocks as usize, 2 * launch::FINISH_FOUR);
        Ok(rounds::of_loop(s.k.div_ceil(4), 0) + epilogue)
    }
}
