//! For drivers that compute on the CPU: queries in the lanes of a vector unit, keys walked by all.

use super::Attention;
use super::launch::{self, Params};
use crate::error::Result;
use crate::gpu::{Spec, fold};
use crate::ops::kernel::{Dispatch, Needs, Stage};
use crate::ops::op::{Call, Kernel};
use crate::ops::rounds;

/// Queries per lane: fewer for large heads, whose code is unrolled.
pub(super) fn rows_per_lane(head_dim: usize) -> u32 {
    match head_dim {
        ..=64 => 4,
        65..=128 => 2,
        _ => 1,
    }
}

/// `shaders/attention_subgroup.wgsl`.
pub(super) struct Lanes {
    stages: [Stage; 1],
}

impl Lanes {
    pub const fn new() -> Self {
        Self { stages: [Stage::trusted(crate::shader!("attention_subgroup"), Params::FIELDS)] }
    }
}

/// Queries per workgroup.
fn block_q(op: &Attention, call: &Call<'_>) -> u32 {
    call.caps.subgroup.unwrap_or(8) * rows_per_lane(op.head_dim)
}

/// Keys that all queries meet per round.
fn keys_per_step(call: &Call<'_>) -> u32 {
    call.caps.subgroup.unwrap_or(8).min(8)
}

impl Kernel for Lanes {
    fn name(&self) -> &'static str {
        "attention_subgroup"
    }

    fn needs(&self) -> Needs {
        Needs { subgroup: Some((4, 8)), software: true, invocations: 8, ..Needs::NOTHING }
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn rank(&self, _call: &Call<'_>) -> f32 {
        2.0
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        let op: &Attention = call.instance()?;
        Ok(launch::with_out(launch::spec(call)?, call)?
            .set("BLOCK_Q", block_q(op, call))
            .set("SUBGROUP", call.caps.subgroup.unwrap_or(8))
            .set("ROWS", rows_per_lane(op.head_dim))
            .set("KEYS", keys_per_step(call)))
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        let op: &Attention = call.instance()?;
        let extent = op.call_extent(call);
        let blocks = extent.q_len.div_ceil(block_q(op, call) as usize);
        Ok(Dispatch::new(&launch::params(call)?, fold(blocks * op.n_heads * extent.batch)))
    }

    fn rounds(&self, _stage: usize, call: &Call<'_>) -> Result<u64> {
        let op: &Attention = call.instance()?;
        let keys = op.most_keys(call, block_q(op, call) as usize);
        Ok(rounds::of_loop(keys.div_ceil(keys_per_step(call) as usize), 0))
    }
}
