//! Register tiles over slabs in workgroup memory: every layout, every size, every device.

use super::launch::{self, Params};
use crate::error::Result;
use crate::gpu::Spec;
use crate::ops::kernel::{Dispatch, Needs, Stage};
use crate::ops::op::{Call, Kernel};
use crate::ops::rounds;

/// Depth of a slab, as in `shaders/shared/stage_tile.wgsl`.
const TILE_K: usize = 16;

/// `shaders/matmul_tiled.wgsl` with square tiles of this side.
pub(super) struct Tiled {
    name: &'static str,
    side: u32,
    /// 16-byte loads, for sizes that are whole groups of four.
    quads: bool,
    stages: [Stage; 1],
}

impl Tiled {
    pub const fn new(name: &'static str, side: u32, quads: bool) -> Self {
        let stages = [Stage::trusted(crate::shader!("matmul_tiled"), Params::FIELDS)];
        Self { name, side, quads, stages }
    }
}

impl Kernel for Tiled {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> Needs {
        Needs { invocations: self.side * self.side / 64, ..Needs::NOTHING }
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn fits(&self, call: &Call<'_>) -> bool {
        launch::shape(call).is_ok_and(|(.., quads)| quads || !self.quads)
    }

    fn rank(&self, call: &Call<'_>) -> f32 {
        let large = launch::shape(call).is_ok_and(|(_, s, _)| s.m >= 256 && s.n >= 256);
        match (self.side, self.quads) {
            (128, _) if large => 6.0,
            // Few tiles of this size leave a GPU idle.
            (128, _) => 9.0,
            (_, true) => 7.0,
            (_, false) => 8.0,
        }
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        let (op, ..) = launch::shape(call)?;
        let [_, four, one] = launch::weight_accessors(call);
        let spec = launch::epilogue(op, call)
            .import("weight_f32_scalar", if self.quads { four } else { one })
            .set("X_TRANSPOSED", op.layout.x_transposed())
            .set("W_TRANSPOSED", op.layout.w_transposed())
            .set("TILE_M", self.side)
            .set("TILE_N", self.side);
        let [x_four, x_one] = launch::x_accessors(call);
        Ok(match self.quads {
            true => spec.import("x_scalar", "x_vec4").import("x_f32", x_four),
            false => spec.import("x_f32_scalar", x_one),
        })
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        launch::dispatch(call, self.side, self.side)
    }

    fn rounds(&self, _stage: usize, call: &Call<'_>) -> Result<u64> {
        let (_, s, _) = launch::shape(call)?;
        // Each round of the inner loop takes two of k.
        let slab = rounds::of_loop(TILE_K / 2, 0);
        Ok(rounds::of_loop(s.k.div_ceil(TILE_K), slab) + rounds::of_loop(16, launch::FINISH_FOUR))
    }
}
