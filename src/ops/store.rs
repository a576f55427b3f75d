//! How results that may be narrowed are stored: see [`Op::stores_f16`](super::Op::stores_f16).

use super::op::Call;
use crate::gpu::Spec;
use crate::tensor::DType;

/// The spec with the first result stored as the call says, by `shaders/shared/store_f32.wgsl` or
/// `store_f16.wgsl`: a value at a time, or four where `vectors`.
pub(super) fn stored(spec: Spec, call: &Call<'_>, vectors: bool) -> Spec {
    let spec = if vectors { spec.set("Wide", "vec4<f32>") } else { spec };
    match (call.output(0).dtype, vectors) {
        (DType::F16, false) => spec.import("store_f32", "store_f16"),
        (DType::F16, true) => spec.import("store_f32", "store_f16").set("Stored", "vec4<f16>"),
        _ => spec,
    }
}
