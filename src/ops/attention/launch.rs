//! What all attention kernels share: feature consts, operand accessors, parameters.

use super::problem::{View, bias_strides};
use super::{Attention, BIAS, BUCKET, K, KEY_MASK, Q};
use crate::error::Result;
use crate::gpu::Spec;
use crate::ops::op::Call;
use crate::ops::store::stored;
use crate::tensor::DType;

crate::params! {
    /// Twin of `Params` in `shaders/shared/attention_common.wgsl`.
    pub(super) struct Params {
        batch: u32, n_heads: u32, n_kv_heads: u32, q_len: u32, kv_len: u32, q_offset: i32,
        window: u32, ahead: i32, scale: f32, softcap: f32, max_distance: u32, n_buckets: u32,
        key_mask_batch: u32,
        q_start: u32, q_batch: u32, q_token: u32, q_head: u32,
        k_start: u32, k_batch: u32, k_token: u32, k_head: u32,
        v_start: u32, v_batch: u32, v_token: u32, v_head: u32,
        out_start: u32, out_batch: u32, out_token: u32, out_head: u32,
        bias_batch: u32, bias_head: u32, bias_query: u32,
    }
}

/// Consts of the features and imports of the operands' storage.
pub(super) fn spec(call: &Call<'_>) -> Result<Spec> {
    let op: &Attention = call.instance()?;
    let bias = match (call.has(BIAS), call.has(BUCKET)) {
        (_, true) => 2u32,
        (true, false) => 1,
        (false, false) => 0,
    };
    let spec = Spec::new()
        .set("HEAD_DIM", op.head_dim as u32)
        .set("CAUSAL", op.causal)
        .set("HAS_WINDOW", op.window.is_some())
        .set("HAS_AHEAD", op.ahead > 0)
        .set("HAS_KEY_MASK", call.has(KEY_MASK))
        .set("HAS_SOFTCAP", op.softcap.is_some())
        .feature("BIAS", bias);
    // Batch strides are multiples of the token stride, so tokens and batch sizes that only
    // a step knows do not change the answer.
    let [q, k, v, _] = op.views(call);
    let aligned = |views: &[View], step| {
        op.head_dim.is_multiple_of(step) && views.iter().all(|view| view.aligned(step))
    };
    let spec = match aligned(&[q], 4) {
        true => spec,
        false => spec.import("attention_q_vec4", "attention_q_scalar"),
    };
    let spec = match call.input(K).dtype {
        DType::F16 if aligned(&[k, v], 8) => spec.import("attention_kv_vec4", "attention_kv_f16"),
        DType::F16 => spec.import("attention_kv_vec4", "attention_kv_f16_scalar"),
        _ if aligned(&[k, v], 4) => spec,
        _ => spec.import("attention_kv_vec4", "attention_kv_scalar"),
    };
    Ok(spec)
}

/// The spec with the result's storage.
pub(super) fn with_out(spec: Spec, call: &Call<'_>) -> Result<Spec> {
    let op: &Attention = call.instance()?;
    let [.., out] = op.views(call);
    let aligned = op.head_dim.is_multiple_of(4) && out.aligned(4);
    Ok(match aligned {
        true => stored(spec, call, true),
        false => stored(spec.import("attention_out_vec4", "attention_out_scalar"), call, false),
    })
}

/// The parameter block.
pub(super) fn params(call: &Call<'_>) -> Result<Params> {
    let op: &Attention = call.instance()?;
    let extent = op.extent(call.input(Q).shape, call.input(K).shape, call.sizes);
    let [q, k, v, out] = op.views(call);
    let (bias, table) = (call.input(BIAS).shape, call.has(BUCKET));
    let [bias_batch, bias_head, bias_query] =
        if table { [0; 3] } else { bias_strides(bias) }.map(|n| n as u32);
    Ok(Params {
        batch: extent.batch as u32,
        n_heads: op.n_heads as u32,
        n_kv_heads: op.n_kv_heads as u32,
        q_len: extent.q_len as u32,
        kv_len: extent.kv_len as u32,
        q_offset: op.q_offset.eval(call.sizes) as i32,
        window: op.window.unwrap_or(0).min(i32::MAX as usize / 2) as u32,
        ahead: op.ahead.min(i32::MAX as usize / 4) as i32,
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
    })
}
