//! Tiles on matrix units: products of f16 with f32 sums, for devices with cooperative matrices.

use super::launch::{self, Params};
use super::sizes::Sizes3;
use super::{Matmul, WEIGHT, X};
use crate::error::Result;
use crate::gpu::Spec;
use crate::ops::kernel::{Dispatch, Needs, Precision, Stage};
use crate::ops::op::{Call, Kernel};
use crate::ops::rounds;
use crate::tensor::DType;

/// Subgroups of a workgroup, two by two.
const SUBGROUPS: u32 = 4;

/// The most memory for tiles that cannot be stored straight to y.
const MAX_SCRATCH: usize = 256 << 20;

/// Tiles of the large kind that keep a GPU's processors busy.
const MANY_TILES: usize = 96;

/// `shaders/matmul_cooperative.wgsl` with `block` x `block` fragments per subgroup.
pub(super) struct Cooperative {
    name: &'static str,
    block: u32,
    /// Depth of a slab.
    depth: u32,
    stages: [Stage; 1],
}

impl Cooperative {
    pub const fn new(name: &'static str, block: u32, depth: u32) -> Self {
        let stages = [Stage::trusted(crate::shader!("matmul_cooperative"), Params::FIELDS)];
        Self { name, block, depth, stages }
    }

    /// Fragments of a subgroup each way, and the depth of a slab. A driver that plays the matrix
    /// units on a CPU takes half a minute to compile the large ones.
    fn extent(&self, call: &Call<'_>) -> (u32, u32) {
        if call.caps.software { (2, 32) } else { (self.block, self.depth) }
    }

    /// Side of the tile of a workgroup.
    fn tile(&self, call: &Call<'_>) -> u32 {
        2 * self.extent(call).0 * call.caps.fragment().unwrap_or(16)
    }
}

/// Whether the rows of x and of the weight are whole groups of eight elements. Those of a
/// transposed x have the length m, which may change from step to step.
fn octs(op: &Matmul, s: &Sizes3) -> (bool, bool) {
    let row = if op.layout.w_transposed() { s.k } else { s.n };
    (!op.layout.x_transposed() && s.k.is_multiple_of(8), row.is_multiple_of(8))
}

/// Whether sums have the place and the type of y's elements.
fn straight(op: &Matmul, call: &Call<'_>) -> bool {
    !op.gated && !call.narrows()
}

impl Kernel for Cooperative {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> Needs {
        // Two slabs of halves, each row padded by eight; most with fragments of 16.
        let side = 32 * self.block;
        let slab = 2 * (side * (self.depth + 8)).max(self.depth * (side + 8));
        Needs {
            subgroup: Some((8, 64)),
            f16: true,
            cooperative: true,
            invocations: SUBGROUPS * 32,
            workgroup_memory: 2 * slab,
            ..Needs::NOTHING
        }
    }

    fn precision(&self) -> Precision {
        Precision::Fast
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// A slot per tile that may reach over the edge of y: the last row and column of tiles, or all
    /// where rows of y, or parts of them, are not whole groups of 16 bytes, or sums are not y's.
    fn scratch(&self, call: &Call<'_>) -> Result<usize> {
        let (op, s, _) = launch::shape(call)?;
        let tile = self.tile(call) as usize;
        let (down, across) = (s.m.div_ceil(tile), s.n.div_ceil(tile));
        let in_parts = call.input(WEIGHT).bytes() as u64 > call.caps.max_binding;
        let slots = if s.n.is_multiple_of(4) && !in_parts && straight(op, call) {
            down + across
        } else {
            (down * across).max(down + across)
        };
        Ok(s.batch * slots * tile * tile * size_of::<f32>())
    }

    fn fits(&self, call: &Call<'_>) -> bool {
        let most = MAX_SCRATCH.min(call.caps.max_binding as usize);
        // Both kernels have the small tiles on a CPU: one of them is enough there.
        let distinct = !call.caps.software || self.block == 2;
        // No accessor reads blocks eight at a time into a fragment yet.
        let plain = call.input(WEIGHT).dtype != DType::I8;
        distinct && plain && self.scratch(call).is_ok_and(|bytes| bytes <= most)
    }

    fn rank(&self, call: &Call<'_>) -> f32 {
        let Ok((_, s, _)) = launch::shape(call) else { return f32::MAX };
        let tile = self.tile(call) as usize;
        let tiles = s.batch * s.m.div_ceil(tile) * s.n.div_ceil(tile);
        match self.block {
            // Where a CPU plays the matrix units, its vector units are ahead.
            _ if call.caps.software => 50.0,
            // Few rows leave most of a fragment empty: the weights are read once either way.
            _ if s.m <= 8 => 60.0,
            4 if tiles < MANY_TILES => 2.0,
            4 => 1.0,
            _ => 1.5,
        }
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        let (op, s, _) = launch::shape(call)?;
        let (x_octs, weight_octs) = octs(op, &s);
        let fragment = call.caps.fragment().unwrap_or(16);
        let (block, depth) = self.extent(call);
        let [left, right, sums] = if fragment == 8 {
            ["coop_mat8x8<f16, A>", "coop_mat8x8<f16, B>", "coop_mat8x8<f32, C>"]
        } else {
            ["coop_mat16x16<f16, A>", "coop_mat16x16<f16, B>", "coop_mat16x16<f32, C>"]
        };
        let [_, x_one] = launch::x_accessors(call);
        let x = match call.input(X).dtype {
            _ if !x_octs => "oct_x_scalar",
            DType::F16 => "oct_x_f16",
            _ => "oct_x_f32",
        };
        let weight = match call.input(WEIGHT).dtype {
            _ if !weight_octs => "oct_weight_scalar",
            DType::F16 => "oct_weight_f16",
            DType::BF16 => "oct_weight_bf16",
            _ => "oct_weight_f32",
        };
        let slabs = if call.caps.metal { "slab_halves" } else { "slab_quads" };
        let spec = launch::epilogue(op, call)
            .import("slab_quads", slabs)
            .import("oct_x_f32", x)
            .import("oct_weight_f32", weight)
            .set("X_TRANSPOSED", op.layout.x_transposed())
            .set("W_TRANSPOSED", op.layout.w_transposed())
            .set("WHOLE", x_octs && weight_octs && s.k.is_multiple_of(depth as usize))
            .import("sums_to_y", if straight(op, call) { "sums_to_y" } else { "sums_apart" })
            .set("SUBGROUP", call.caps.subgroup.unwrap_or(32))
            .set("FRAGMENT", fragment)
            .set("Left", left)
            .set("Right", right)
            .set("Sums", sums)
            .set("BLOCK", block)
            .set("TILE_K", depth);
        let [_, _, one] = launch::weight_accessors(call);
        Ok(spec.import("weight_f32_scalar", one).import("x_f32_scalar", x_one))
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        launch::dispatch(call, self.tile(call), self.tile(call))
    }

    fn rounds(&self, _stage: usize, call: &Call<'_>) -> Result<u64> {
        let (_, s, _) = launch::shape(call)?;
        let (_, depth) = self.extent(call);
        // A subgroup's part of a tile, an element of each lane at a time where it is ragged.
        let part = self.tile(call) / 2;
        let epilogue = (part * part).div_ceil(call.caps.subgroup.unwrap_or(32));
        Ok(rounds::of_loop(s.k.div_ceil(depth as usize), 0) + rounds::of_loop(epilogue as usize, 0))
    }
}
