//! Bits of literals.

use wgpu::naga::Literal;

use super::layout::Result;

pub(super) fn bits(literal: Literal) -> Result<u32> {
    Ok(match literal {
        Literal::F32(v) => v.to_bits(),
        Literal::F16(v) => u32::from(v.to_bits()),
        Literal::U32(v) => v,
        Literal::I32(v) => v as u32,
        Literal::Bool(v) => u32::from(v),
        // Only what no value depends on is left abstract.
        Literal::AbstractInt(v) => v as u32,
        Literal::AbstractFloat(v) => (v as f32).to_bits(),
        other => return Err(format!("the literal {other:?}")),
    })
}
