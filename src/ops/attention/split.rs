//! A few queries against many keys, in two stages: the keys of a head are split between workgroups,
//! whose results are then added up.

use std::sync::LazyLock;

use super::Attention;
use super::decode::{Cover, FEW_QUERIES};
use super::launch::{self, Params};
use crate::error::Result;
use crate::gpu::{Caps, Spec, fold};
use crate::ops::kernel::{Dispatch, Stage};
use crate::ops::op::{Call, Kernel};
use crate::ops::rounds::{self, most_rounds};

/// The least keys worth a workgroup of their own.
const SHARE: usize = 256;
/// The most shares, which one invocation adds up.
const MAX_SHARES: usize = 64;
/// Workgroups that keep a large GPU busy: twice its processors. Devices do not tell how many they
/// have; a smaller one loses little by more.
const BUSY: usize = 256;
/// Invocations per workgroup of the second stage.
const THREADS: usize = 64;

crate::params! {
    /// Twin of `Params` in `shaders/attention_combine.wgsl`.
    struct CombineParams {
        batch: u32, n_heads: u32, n_kv_heads: u32, q_len: u32, shares: u32,
        out_start: u32, out_batch: u32, out_token: u32, out_head: u32,
    }
}

/// Workgroups that keep the device busy.
fn busy(caps: &Caps) -> usize {
    static CORES: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
    if caps.software { 2 * *CORES } else { BUSY }
}

/// How the keys of a call are split.
#[derive(Clone, Copy, Debug)]
struct Shares {
    /// Workgroups per share.
    groups: usize,
    /// Rows of the result: a query of a head each.
    rows: usize,
    /// Shares that the keys are worth.
    worth: usize,
    /// Shares without which an invocation's loops would run for more rounds than the device allows.
    needed: usize,
    /// Turns of the teams that all keys of a workgroup take.
    turns: usize,
    busy: usize,
    cover: Cover,
}

impl Shares {
    fn new(op: &Attention, call: &Call<'_>) -> Self {
        let extent = op.call_extent(call);
        let cover = Cover::new(op, call.caps);
        // A window lets no block see more keys than this.
        let keys = op.most_keys(call, extent.q_len);
        let turns = cover.turns(keys);
        let left = most_rounds(call.caps).saturating_sub(cover.rounds(op, call.caps, 0));
        let allowed = usize::try_from(left / (1 + cover.rounds_per_turn())).unwrap_or(usize::MAX);
        Self {
            groups: cover.blocks(op, extent.q_len) * op.n_kv_heads * extent.batch,
            rows: extent.batch * op.n_heads * extent.q_len,
            worth: keys.div_ceil(SHARE).clamp(1, MAX_SHARES),
            needed: turns.div_ceil(allowed.max(1)).clamp(1, MAX_SHARES),
            turns,
            busy: busy(call.caps),
            cover,
        }
    }

    fn shares(&self) -> usize {
        self.worth.min(self.busy.div_ceil(self.groups.max(1))).max(self.needed)
    }

    /// Parts of all rows. More groups take fewer shares each, so this is made a bound that never
    /// shrinks as sizes grow: the memory planned for the largest sizes must do for all.
    ///
    /// `shares < busy / groups + needed`, and a group has at most `cover.rows` rows.
    fn parts(&self) -> usize {
        let few = self.busy * self.cover.rows as usize + self.rows * self.needed;
        (self.rows * self.worth.max(self.needed)).min(few)
    }
}

/// `shaders/attention_split.wgsl`, then `shaders/attention_combine.wgsl`.
pub(super) struct Split {
    stages: [Stage; 2],
}

impl Split {
    pub const fn new() -> Self {
        Self {
            stages: [
                Stage::trusted(crate::shader!("attention_split"), Params::FIELDS),
                Stage::trusted(crate::shader!("attention_combine"), CombineParams::FIELDS),
            ],
        }
    }
}

impl Kernel for Split {
    fn name(&self) -> &'static str {
        "attention_split"
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn scratch(&self, call: &Call<'_>) -> Result<usize> {
        let op: &Attention = call.instance()?;
        // A part: the vectors of a head, and one for what they are worth.
        Ok(Shares::new(op, call).parts() * (op.head_dim.div_ceil(4) + 1) * 16)
    }

    fn rank(&self, call: &Call<'_>) -> f32 {
        let Ok(op) = call.instance::<Attention>() else { return f32::INFINITY };
        let few = op.call_extent(call).q_len <= FEW_QUERIES;
        // Without a split it is the decoding kernel and a second dispatch. Drivers that compute on
        // the CPU run the heads of most models on all their cores as it is, and lose 5 % to 15 % by
        // the second stage.
        let wins = few && !call.caps.software && Shares::new(op, call).shares() > 1;
        if wins { 0.5 } else { 11.0 }
    }

    fn spec(&self, stage: usize, call: &Call<'_>) -> Result<Spec> {
        let op: &Attention = call.instance()?;
        match stage {
            0 => Cover::new(op, call.caps).spec(call),
            _ => launch::with_out(Spec::new().set("HEAD_DIM", op.head_dim as u32), call),
        }
    }

    fn dispatch(&self, stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        let op: &Attention = call.instance()?;
        let split = Shares::new(op, call);
        let shares = split.shares() as u32;
        let params = launch::params(call)?;
        if stage == 0 {
            let [x, y, _] = fold(split.groups);
            return Ok(Dispatch::new(&params, [x, y, shares]));
        }
        let Params { batch, n_heads, n_kv_heads, q_len, .. } = params;
        let Params { out_start, out_batch, out_token, out_head, .. } = params;
        let params = CombineParams {
            batch,
            n_heads,
            n_kv_heads,
            q_len,
            shares,
            out_start,
            out_batch,
            out_token,
            out_head,
        };
        let items = split.rows * op.head_dim.div_ceil(4);
        Ok(Dispatch::new(&params, fold(items.div_ceil(THREADS))))
    }

    fn rounds(&self, stage: usize, call: &Call<'_>) -> Result<u64> {
        let op: &Attention = call.instance()?;
        let split = Shares::new(op, call);
        let shares = split.shares();
        Ok(match stage {
            0 => split.cover.rounds(op, call.caps, split.turns.div_ceil(shares)),
            _ => 2 * rounds::of_loop(shares, 0),
        })
    }
}
