//! What kernels import.

use super::shader::ShaderSource;

macro_rules! shared {
    ($($name:literal),* $(,)?) => {
        &[$(ShaderSource {
            name: $name,
            text: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"), "/shaders/shared/", $name, ".wgsl"
            )),
        }),*]
    };
}

/// The files of `shaders/shared/`, which `#import` pastes.
pub(super) const SHARED: &[ShaderSource] = shared![
    "activation",
    "attention_common",
    "attention_io_scalar",
    "attention_io_vec4",
    "attention_join_subgroup",
    "attention_join_workgroup",
    "attention_kv_f16",
    "attention_kv_f16_scalar",
    "attention_kv_scalar",
    "attention_kv_vec4",
    "attention_steps",
    "cache_f16",
    "cache_f32",
    "elem_f32",
    "elem_vec4",
    "fold",
    "halves",
    "matmul_epilogue",
    "matmul_params",
    "norm_operands",
    "oct_weight_bf16",
    "oct_weight_f16",
    "oct_weight_f32",
    "oct_weight_scalar",
    "oct_x_f16",
    "oct_x_f32",
    "oct_x_scalar",
    "quad_scalar",
    "quad_vec4",
    "reduce_subgroup",
    "reduce_workgroup",
    "row_registers",
    "softmax_terms",
    "sum_discard",
    "sum_store",
    "table_bf16",
    "table_f16",
    "table_f32",
    "weight8_bf16",
    "weight8_f16",
    "weight8_f32",
    "weight_bf16",
    "weight_bf16_scalar",
    "weight_f16",
    "weight_f16_scalar",
    "weight_f32",
    "weight_f32_scalar",
    "winner",
    "x_scalar",
    "x_vec4",
];
