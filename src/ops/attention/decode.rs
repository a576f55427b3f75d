//! A few queries against many keys: the keys of a head are split between the lanes of a workgroup.

use super::Attention;
use super::lanes::rows_per_lane;
use super::launch::{self, Params};
use crate::error::Result;
use crate::gpu::{Caps, Spec, fold};
use crate::ops::kernel::{Dispatch, Stage};
use crate::ops::op::{Call, Kernel};
use crate::ops::rounds;

/// The largest number of queries that decoding kernels are a sensible choice for.
pub(super) const FEW_QUERIES: usize = 8;

/// How a decoding kernel covers a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cover {
    /// Queries and heads per workgroup.
    pub rows: u32,
    /// Lanes per workgroup.
    pub threads: u32,
    /// Lanes that share a key; between the teams the keys are split.
    pub team: u32,
}

impl Cover {
    pub fn new(op: &Attention, caps: &Caps) -> Self {
        let group = (op.n_heads / op.n_kv_heads) as u32;
        let vectors = op.head_dim.div_ceil(4) as u32;
        let wanted = group.next_power_of_two();
        if let Some(threads) = caps.vector_unit() {
            // Loads are the cost, a second row costs a twentieth more; large heads' code is long.
            let most = if vectors <= 16 { 8 } else { (128 / vectors).next_power_of_two() };
            return Self { rows: wanted.clamp(2, most.clamp(2, 8)), threads, team: 1 };
        }
        // 16 bytes of f16 a lane: a key's loads are side by side. Without subgroups of a fixed size
        // lanes cannot add up what they share.
        let pairs = vectors.div_ceil(2);
        let subgroup = caps.subgroup.unwrap_or(1);
        let team = pairs.next_power_of_two().min(subgroup).min(32);
        // A lane holds its vectors of all rows, queries and sums, in registers.
        let mine = if team == 1 { vectors } else { 2 * pairs.div_ceil(team) };
        let mut rows = match team {
            1 => wanted.min(if vectors <= 16 { 2 } else { 1 }),
            _ => wanted.min((16 / mine).max(1)).min(8),
        };
        let most = if team == 1 { 64 } else { 128 };
        let bytes = |threads: u32, rows: u32| {
            let slots = threads / team;
            slots * (16 * ((rows * team * mine) | 1) + 8 * rows)
        };
        loop {
            let fits = |threads: &u32| {
                *threads >= subgroup && bytes(*threads, rows) <= caps.workgroup_memory
            };
            let sizes = [128, 64, 32, 16, 8].into_iter().filter(|threads| *threads <= most);
            match sizes.filter(fits).max() {
                Some(threads) => return Self { rows, threads, team },
                // Every device holds one row of the widest heads eight times.
                None if rows == 1 => return Self { rows, threads: subgroup.max(8), team },
                None => rows /= 2,
            }
        }
    }

    /// Workgroups that read the same keys.
    pub fn blocks(self, op: &Attention, q_len: usize) -> usize {
        (q_len * (op.n_heads / op.n_kv_heads)).div_ceil(self.rows as usize)
    }

    /// Rounds of the teams in which they take so many keys.
    pub fn turns(self, keys: usize) -> usize {
        keys.div_ceil((self.threads / self.team) as usize)
    }

    /// Rounds of loops inside such a round: sums over a team, per row.
    pub fn rounds_per_turn(self) -> u64 {
        match self.team {
            1 => 0,
            team => u64::from(self.rows) * rounds::of_tree(team),
        }
    }

    /// Rounds of loops of an invocation that takes so many turns: rows loaded, keys, teams joined.
    pub fn rounds(self, op: &Attention, caps: &Caps, turns: usize) -> u64 {
        let Self { rows, threads, team } = self;
        let vectors = op.head_dim.div_ceil(4);
        let turns_of_vectors = vectors.div_ceil(2).div_ceil(team as usize);
        let mine = vectors.min(2 * turns_of_vectors);
        let joined = rows as usize * team as usize * mine;
        let join = match caps.vector_unit() {
            Some(_) => rounds::of_loop(joined, 0),
            None => {
                let slots = rounds::of_loop((threads / team) as usize, 0);
                let settled = u64::from(rows) * 2 * slots;
                settled + rounds::of_loop(joined.div_ceil(threads as usize), slots)
            }
        };
        let load = u64::from(rows) * rounds::of_loop(mine, 0);
        load + rounds::of_loop(turns, self.rounds_per_turn()) + join
    }

    /// The step's variant, `shaders/shared/attention_step.wgsl`.
    pub fn spec(self, call: &Call<'_>) -> Result<Spec> {
        let Self { rows, threads, team } = self;
        let spec = launch::spec(call)?.set("ROWS", rows).set("THREADS", threads).set("TEAM", team);
        let spec = match team {
            1 => spec,
            _ => spec.import("attention_team_one", "attention_team_subgroup"),
        };
        Ok(match call.caps.vector_unit() {
            None => spec,
            Some(_) => spec.import("attention_join_workgroup", "attention_join_subgroup"),
        })
    }
}

/// `shaders/attention_decode.wgsl`.
pub(super) struct Decode {
    stages: [Stage; 1],
}

impl Decode {
    pub const fn new() -> Self {
        Self { stages: [Stage::trusted(crate::shader!("attention_decode"), Params::FIELDS)] }
    }
}

impl Kernel for Decode {
    fn name(&self) -> &'static str {
        "attention_decode"
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn rank(&self, call: &Call<'_>) -> f32 {
        let Ok(op) = call.instance::<Attention>() else { return f32::INFINITY };
        let q_len = op.call_extent(call).q_len;
        if q_len > FEW_QUERIES {
            return 10.0;
        }
        if call.caps.vector_unit().is_none() {
            return 1.0;
        }
        // The subgroup kernel reads the keys once per head whatever the number of queries, and
        // spends more time on its arithmetic, most where it has most queries per lane.
        let blocks = Cover::new(op, call.caps).blocks(op, q_len);
        let worth = if rows_per_lane(op.head_dim) == 4 { 2 } else { 1 };
        if blocks <= worth * (op.n_heads / op.n_kv_heads) { 1.0 } else { 10.0 }
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        let op: &Attention = call.instance()?;
        launch::with_out(Cover::new(op, call.caps).spec(call)?, call)
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        let op: &Attention = call.instance()?;
        let extent = op.call_extent(call);
        let blocks = Cover::new(op, call.caps).blocks(op, extent.q_len);
        Ok(Dispatch::new(&launch::params(call)?, fold(blocks * op.n_kv_heads * extent.batch)))
    }

    fn rounds(&self, _stage: usize, call: &Call<'_>) -> Result<u64> {
        let op: &Attention = call.instance()?;
        let cover = Cover::new(op, call.caps);
        let turns = cover.turns(op.most_keys(call, cover.rows as usize));
        Ok(cover.rounds(op, call.caps, turns))
    }
}
