//! Tiles of keys and values in workgroup memory, shared by 64 queries: every device.

use super::Attention;
use super::launch::{self, Params};
use crate::error::Result;
use crate::gpu::{Spec, fold};
use crate::ops::kernel::{Dispatch, Needs, Stage};
use crate::ops::op::{Call, Kernel};
use crate::ops::rounds;

/// Queries per workgroup.
const BLOCK_Q: u32 = 64;

/// Keys per tile of the tiled kernel: as many as the device's workgroup memory holds.
fn block_k(head_dim: usize, workgroup_memory: u32) -> u32 {
    let pitch = head_dim.div_ceil(4) as u32 | 1;
    let bytes = |keys: u32| 16 * (keys * pitch + keys * BLOCK_Q / 4 + 2 * BLOCK_Q);
    [32, 16].into_iter().find(|&keys| bytes(keys) <= workgroup_memory).unwrap_or(8)
}

/// `shaders/attention_flash.wgsl`.
pub(super) struct Flash {
    stages: [Stage; 1],
}

impl Flash {
    pub const fn new() -> Self {
        Self { stages: [Stage::trusted(crate::shader!("attention_flash"), Params::FIELDS)] }
    }
}

impl Kernel for Flash {
    fn name(&self) -> &'static str {
        "attention_flash"
    }

    fn needs(&self) -> Needs {
        Needs { invocations: 2 * BLOCK_Q, ..Needs::NOTHING }
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn rank(&self, _call: &Call<'_>) -> f32 {
        3.0
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        let op: &Attention = call.instance()?;
        let keys = block_k(op.head_dim, call.caps.workgroup_memory);
        Ok(launch::with_out(launch::spec(call)?, call)?
            .set("BLOCK_Q", BLOCK_Q)
            .set("BLOCK_K", keys))
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        let op: &Attention = call.instance()?;
        let extent = op.call_extent(call);
        let blocks = extent.q_len.div_ceil(BLOCK_Q as usize);
        Ok(Dispatch::new(&launch::params(call)?, fold(blocks * op.n_heads * extent.batch)))
    }

    fn rounds(&self, _stage: usize, call: &Call<'_>) -> Result<u64> {
        let op: &Attention = call.instance()?;
        let vectors = op.head_dim.div_ceil(4);
        let tile = block_k(op.head_dim, call.caps.workgroup_memory) as usize;
        let load = rounds::of_loop((tile * vectors.div_ceil(2)).div_ceil(2 * BLOCK_Q as usize), 0);
        let (scores, weigh) = (rounds::of_loop(vectors, 0), rounds::of_loop(tile, 0));
        // The join of the eight columns: of maxima per tile, and of sums at the end.
        let columns = rounds::of_loop(8, 0);
        let keys = op.most_keys(call, BLOCK_Q as usize);
        let per_tile = 2 * load + scores + columns + weigh;
        Ok(rounds::of_loop(keys.div_ceil(tile), per_tile) + columns)
    }
}
