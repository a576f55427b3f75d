//! What all kernels of the product share: epilogue consts, weight accessors, parameters.

use super::sizes::Sizes3;
use super::{BIAS, Matmul, RESIDUAL, WEIGHT, X};
use crate::error::{Error, Result};
use crate::gpu::{Spec, fold};
use crate::ops::kernel::Dispatch;
use crate::ops::op::Call;
use crate::ops::rounds;
use crate::ops::store::stored;
use crate::tensor::DType;

crate::params! {
    /// Twin of `Params` in `shaders/shared/matmul_params.wgsl`.
    pub(super) struct Params {
        m: u32,
        n: u32,
        k: u32,
        batch: u32,
        w_batch_stride: u32,
        y_row_stride: u32,
        n_offset: u32,
        batch_offset: u32,
    }
}

/// Consts of the epilogue, and how y is stored.
pub(super) fn epilogue(op: &Matmul, call: &Call<'_>) -> Spec {
    let spec = Spec::new()
        .feature("ACT", op.activation.code())
        .set("HAS_BIAS", call.has(BIAS))
        .set("HAS_RESIDUAL", call.has(RESIDUAL))
        .set("GATED", op.gated);
    stored(spec, call, false)
}

/// Rounds of `finish_four` in `shaders/shared/matmul_epilogue.wgsl`.
pub(super) const FINISH_FOUR: u64 = rounds::of_loop(4, 0);

/// Accessors of the same x four elements or one at a time.
pub(super) fn x_accessors(call: &Call<'_>) -> [&'static str; 2] {
    match call.input(X).dtype {
        DType::F16 => ["x_f16", "x_f16_scalar"],
        _ => ["x_f32", "x_f32_scalar"],
    }
}

/// Accessors of the same weights eight, four or one at a time.
pub(super) fn weight_accessors(call: &Call<'_>) -> [&'static str; 3] {
    match call.input(WEIGHT).dtype {
        DType::F16 => ["weight8_f16", "weight_f16", "weight_f16_scalar"],
        DType::I8 => ["weight8_q8_0", "weight_q8_0", "weight_q8_0_scalar"],
        DType::BF16 => ["weight8_bf16", "weight_bf16", "weight_bf16_scalar"],
        _ => ["weight8_f32", "weight_f32", "weight_f32_scalar"],
    }
}

/// Sizes of a call's product, and whether both operands can be read four elements at a time.
pub(super) fn shape<'a>(call: &Call<'a>) -> Result<(&'a Matmul, Sizes3, bool)> {
    let op: &Matmul = call.instance()?;
    let s = op.sizes(call);
    let quads = !op.layout.x_transposed()
        && s.k.is_multiple_of(4)
        && (op.layout.w_transposed() || s.n.is_multiple_of(4));
    Ok((op, s, quads))
}

/// Parameters and grid for tiles of `tile_m` by `tile_n` elements of the result, of a whole
/// product or of one part of its weight.
pub(super) fn dispatch(call: &Call<'_>, tile_m: u32, tile_n: u32) -> Result<Dispatch> {
    let (op, mut s, _) = shape(call)?;
    let y_row_stride = op.columns(s.n);
    let (mut n_offset, mut batch_offset) = (0, 0);
    if let Some(part) = call.part {
        // The split first dimension is n, or the first of the weight's leading dimensions.
        if s.w_batch_stride == 0 {
            (s.n, n_offset) = (part.rows, part.first);
            if op.gated && (s.n % 2 == 1 || n_offset % 2 == 1) {
                let message =
                    "a part of a gated product's weight holds gates without what they scale";
                return Err(Error::op("matmul", message));
            }
        } else {
            let first = call.input(WEIGHT).shape.dims().first().copied().unwrap_or(1).max(1);
            let per_row = s.batch / first;
            (s.batch, batch_offset) = (part.rows * per_row, part.first * per_row);
        }
    }
    let tiles = s.m.div_ceil(tile_m as usize) * s.n.div_ceil(tile_n as usize);
    let params = Params {
        m: s.m as u32,
        n: s.n as u32,
        k: s.k as u32,
        batch: s.batch as u32,
        w_batch_stride: s.w_batch_stride as u32,
        y_row_stride: y_row_stride as u32,
        n_offset: n_offset as u32,
        batch_offset: batch_offset as u32,
    };
    Ok(Dispatch::new(&params, fold(s.batch * tiles)))
}
