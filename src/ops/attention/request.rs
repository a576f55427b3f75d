//! Attention as `tilewright op` and the goldens spell it.

use std::sync::Arc;

use super::{Attention, HeadLayout};
use crate::error::{Error, Result};
use crate::ops::op::Built;
use crate::ops::request::Request;
use crate::tensor::{Dim, Tensor};

/// Inputs q, k, v `[b, h, tokens, d]`, optional key_mask `[b, s]`, bias `[1|b, 1|h, 1|q, s]`, or a
/// table bias with bucket. `mask` joins any of causal, sliding_window, key_padding and additive
/// with `+`, or is none. Queries are the last of the keys unless `q_offset` says otherwise.
pub(super) fn build(request: &mut Request) -> Result<Built> {
    let q = request.need(&["q"])?;
    let k = request.need(&["k"])?;
    let v = request.need(&["v"])?;
    let key_mask = request.take(&["key_mask"]);
    let bias = request.take(&["bias"]);
    let bucket = request.take(&["bucket"]);
    let fail = |message: String| Error::op("attention", message);
    let (&[_, n_heads, q_len, head_dim], &[_, n_kv_heads, kv_len, _]) =
        (q.shape().dims(), k.shape().dims())
    else {
        return Err(fail(format!(
            "q {} and k {} must be [batch, heads, tokens, head_dim]",
            q.meta(),
            k.meta()
        )));
    };
    for (key, found) in [
        ("q_heads", n_heads),
        ("kv_heads", n_kv_heads),
        ("q_len", q_len),
        ("kv_len", kv_len),
        ("head_dim", head_dim),
    ] {
        if let Some(wanted) = request.get::<usize>(key)?.filter(|&n| n != found) {
            return Err(fail(format!("{key} is {wanted}, but q and k have {found}")));
        }
    }
    let window = request.get("window")?;
    let mask = request.get::<String>("mask")?.unwrap_or_default();
    let mut causal = false;
    for part in mask.split('+').filter(|part| !part.is_empty()) {
        let (given, what) = match part {
            "causal" => {
                causal = true;
                (true, "")
            }
            "sliding_window" => (window.is_some(), "setting window"),
            "key_padding" => (key_mask.is_some(), "input key_mask"),
            "additive" => (bias.is_some(), "input bias"),
            _ => {
                return Err(fail(format!(
                    "mask={mask}: `{part}` is not one of none, causal, sliding_window, \
                     key_padding, additive"
                )));
            }
        };
        if !given {
            return Err(fail(format!("mask={mask} needs the {what}")));
        }
    }
    let max_distance = bucket.as_ref().map_or(0, |t: &Tensor| t.shape().numel() / 2);
    let ordered = causal || window.is_some() || bucket.is_some();
    let last = if ordered { kv_len.saturating_sub(q_len) } else { 0 };
    let op = Attention {
        layout: HeadLayout::Heads,
        scale: request.get("scale")?.unwrap_or(1.0 / (head_dim.max(1) as f32).sqrt()),
        causal,
        q_offset: Dim::Const(request.get("q_offset")?.unwrap_or(last)),
        window,
        ahead: request.get("ahead")?.unwrap_or(0),
        softcap: request.get("softcap")?,
        max_distance,
        ..Attention::new(n_heads, n_kv_heads, head_dim)
    };
    Ok((Arc::new(op), vec![Some(q), Some(k), Some(v), key_mask, bias, bucket]))
}
