//! The kernels of attention: which calls each takes, how it is specialised and dispatched.

use super::problem::{View, bias_strides};
use super::{Attention, BIAS, BUCKET, K, KEY_MASK, Q};
use crate::gpu::{Caps, ParamBytes, Spec, fold};
use crate::ops::{Call, Dispatch, Kernel, Needs};
use crate::tensor::DType;

crate::params! {
    /// Twin of `Params` in `shaders/shared/attention_common.wgsl`.
    struct Params {
        batch: u32, n_heads: u32, n_kv_heads: u32, q_len: u32, kv_len: u32, q_offset: i32,
        window: u32, scale: f32, softcap: f32, max_distance: u32, n_buckets: u32,
        key_mask_batch: u32,
        q_start: u32, q_batch: u32, q_token: u32, q_head: u32,
        k_start: u32, k_batch: u32, k_token: u32, k_head: u32,
        v_start: u32, v_batch: u32, v_token: u32, v_head: u32,
        out_start: u32, out_batch: u32, out_token: u32, out_head: u32,
        bias_batch: u32, bias_head: u32, bias_query: u32,
    }
}

const DECODE: &str = "attention_decode";
const SUBGROUP: &str = "attention_subgroup";
const FLASH: &str = "attention_flash";

/// Preferred first.
pub(super) static KERNELS: [Kernel; 3] = [
    Kernel {
        name: DECODE,
        source: crate::shader!("attention_decode"),
        params: Params::FIELDS,
        trusted: true,
        needs: Needs::NOTHING,
    },
    // Subgroups this small are the vector units of a CPU, which the kernel is made for.
    Kernel {
        name: SUBGROUP,
        source: crate::shader!("attention_subgroup"),
        params: Params::FIELDS,
        trusted: true,
        needs: Needs { subgroup: Some((4, 8)), invocations: 8, ..Needs::NOTHING },
    },
    Kernel {
        name: FLASH,
        source: crate::shader!("attention_flash"),
        params: Params::FIELDS,
        trusted: true,
        needs: Needs { invocations: 2 * FLASH_BLOCK_Q, ..Needs::NOTHING },
    },
];

/// Queries per workgroup of the tiled kernel.
const FLASH_BLOCK_Q: u32 = 64;

/// Keys per tile of the tiled kernel: as many as the device's workgroup memory holds.
fn flash_block_k(head_dim: usize, workgroup_memory: u32) -> u32 {
    let pitch = head_dim.div_ceil(4) as u32 | 1;
    let bytes = |keys: u32| 16 * (keys * pitch + keys * FLASH_BLOCK_Q / 4 + 2 * FLASH_BLOCK_Q);
    [32, 16].into_iter().find(|&keys| bytes(keys) <= workgroup_memory).unwrap_or(8)
}

/// Queries per lane of the subgroup kernel: fewer for large heads, whose code is unrolled.
fn rows_per_lane(head_dim: usize) -> u32 {
    match head_dim {
        ..=64 => 4,
        65..=128 => 2,
        _ => 1,
    }
}

/// The subgroup size where subgroups are the vector units of a CPU.
fn vector_unit(caps: &Caps) -> Option<u32> {
    caps.subgroup.filter(|size| matches!(size, 4 | 8))
}

/// The largest number of queries that the decoding kernel is a sensible choice for.
const DECODE_QUERIES: usize = 8;

/// How the decoding kernel covers a call.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Decode {
    /// Queries and heads per workgroup.
    rows: u32,
    /// Lanes, between which the keys are split.
    threads: u32,
}

impl Decode {
    fn new(op: &Attention, caps: &Caps) -> Self {
        let group = (op.n_heads / op.n_kv_heads) as u32;
        let vectors = op.head_dim.div_ceil(4) as u32;
        let wanted = group.next_power_of_two();
        if let Some(threads) = vector_unit(caps) {
            // Loads are the cost, a second row costs a twentieth more; large heads' code is long.
            let most = if vectors <= 16 { 8 } else { (128 / vectors).next_power_of_two() };
            return Self { rows: wanted.clamp(2, most.clamp(2, 8)), threads };
        }
        // A lane holds its sums in registers.
        let rows = wanted.min(if vectors <= 16 { 2 } else { 1 });
        let bytes = |threads: u32| threads * (16 * ((rows * vectors) | 1) + 4);
        let fits = |threads: &u32| bytes(*threads) <= caps.workgroup_memory;
        Self { rows, threads: [64, 32, 16].into_iter().find(fits).unwrap_or(8) }
    }

    /// Workgroups that read the same keys.
    fn blocks(self, op: &Attention, q_len: usize) -> usize {
        (q_len * (op.n_heads / op.n_kv_heads)).div_ceil(self.rows as usize)
    }
}

/// Queries per workgroup of the other kernels.
fn block_q(op: &Attention, kernel: &Kernel, caps: &Caps) -> u32 {
    match kernel.name {
        SUBGROUP => caps.subgroup.unwrap_or(8) * rows_per_lane(op.head_dim),
        _ => FLASH_BLOCK_Q,
    }
}

/// Whether a kernel is a sensible choice. The condition is one-sided in the number of queries, so
/// that a plan that compiled for the sizes it probed finds a kernel for every size between.
pub(super) fn accepts(op: &Attention, kernel: &Kernel, call: &Call<'_>) -> bool {
    if kernel.name != DECODE {
        return true;
    }
    let q_len = op.extent(call.input(Q).shape, call.input(K).shape, call.sizes).q_len;
    let few = q_len <= DECODE_QUERIES;
    if vector_unit(call.caps).is_none() {
        return few;
    }
    // The subgroup kernel reads the keys once per head whatever the number of queries, and spends
    // more time on its arithmetic, most where it has most queries per lane.
    let blocks = Decode::new(op, call.caps).blocks(op, q_len);
    let worth = if rows_per_lane(op.head_dim) == 4 { 2 } else { 1 };
    few && blocks <= worth * (op.n_heads / op.n_kv_heads)
}

pub(super) fn spec(op: &Attention, kernel: &Kernel, call: &Call<'_>) -> Spec {
    let bias = match (call.has(BIAS), call.has(BUCKET)) {
        (_, true) => 2u32,
        (true, false) => 1,
        (false, false) => 0,
    };
    let spec = Spec::new()
        .set("HEAD_DIM", op.head_dim as u32)
        .set("CAUSAL", op.causal)
        .set("HAS_WINDOW", op.window.is_some())
        .set("HAS_KEY_MASK", call.has(KEY_MASK))
        .set("HAS_SOFTCAP", op.softcap.is_some())
        .set("BIAS", bias);
    // Batch strides are multiples of the token stride, so tokens and batch sizes that only
    // a step knows do not change the answer.
    let [q, k, v, out] = op.views(call);
    let aligned = |views: [View; 2], step| {
        op.head_dim.is_multiple_of(step) && views.iter().all(|view| view.aligned(step))
    };
    let spec = match aligned([q, out], 4) {
        true => spec,
        false => spec.import("attention_io_vec4", "attention_io_scalar"),
    };
    let spec = match call.input(K).dtype {
        DType::F16 if aligned([k, v], 8) => spec.import("attention_kv_vec4", "attention_kv_f16"),
        DType::F16 => spec.import("attention_kv_vec4", "attention_kv_f16_scalar"),
        _ if aligned([k, v], 4) => spec,
        _ => spec.import("attention_kv_vec4", "attention_kv_scalar"),
    };
    match kernel.name {
        DECODE => {
            let Decode { rows, threads } = Decode::new(op, call.caps);
            let spec = spec.set("ROWS", rows).set("THREADS", threads);
            if vector_unit(call.caps).is_none() {
                return spec;
            }
            spec.import("reduce_workgroup", "reduce_subgroup")
                .import("attention_join_workgroup", "attention_join_subgroup")
        }
        SUBGROUP => {
            let lanes = call.caps.subgroup.unwrap_or(8);
            spec.set("BLOCK_Q", block_q(op, kernel, call.caps))
                .set("SUBGROUP", lanes)
                .set("ROWS", rows_per_lane(op.head_dim))
                .set("KEYS", lanes.min(8))
        }
        _ => spec
            .set("BLOCK_Q", block_q(op, kernel, call.caps))
            .set("BLOCK_K", flash_block_k(op.head_dim, call.caps.workgroup_memory)),
    }
}

pub(super) fn dispatch(op: &Attention, kernel: &Kernel, call: &Call<'_>) -> Dispatch {
    let extent = op.extent(call.input(Q).shape, call.input(K).shape, call.sizes);
    let [q, k, v, out] = op.views(call);
    let (bias, table) = (call.input(BIAS).shape, call.has(BUCKET));
    let [bias_batch, bias_head, bias_query] =
        if table { [0; 3] } else { bias_strides(bias) }.map(|n| n as u32);
    let params = Params {
        batch: extent.batch as u32,
        n_heads: op.n_heads as u32,
        n_kv_heads: op.n_kv_heads as u32,
        q_len: extent.q_len as u32,
        kv_len: extent.kv_len as u32,
        q_offset: op.q_offset.eval(call.sizes) as i32,
        window: op.window.unwrap_or(0).min(i32::MAX as usize / 2) as u32,
        scale: op.scale,
        softcap: op.softcap.unwrap_or(0.0),
        max_distance: op.max_distance as u32,
        n_buckets: if table { bias.rows() as u32 } else { 0 },
        key_mask_batch: call.input(KEY_MASK).shape.last() as u32,
        q_start: q.start as u32,
        q_batch: q.batch as u32,
        q_token: q.token as u32,
        q_head: q.head as u32,
        k_start: k.start as u32,
        k_batch: k.batch as u32,
        k_token: k.token as u32,
        k_head: k.head as u32,
        v_start: v.start as u32,
        v_batch: v.batch as u32,
        v_token: v.token as u32,
        v_head: v.head as u32,
        out_start: out.start as u32,
        out_batch: out.batch as u32,
        out_token: out.token as u32,
        out_head: out.head as u32,
        bias_batch,
        bias_head,
        bias_query,
    };
    let per_entry = match kernel.name {
        DECODE => Decode::new(op, call.caps).blocks(op, extent.q_len) * op.n_kv_heads,
        _ => extent.q_len.div_ceil(block_q(op, kernel, call.caps) as usize) * op.n_heads,
    };
    Dispatch { params: ParamBytes::of(&params), grid: fold(per_entry * extent.batch) }
}
