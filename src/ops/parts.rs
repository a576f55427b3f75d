//! Operands that exceed a device's largest binding are stored and used in parts.

use super::kernel::Part;
use crate::tensor::Meta;

/// Rows of a split operand whose every plane fits one binding of `max_binding` bytes, rounded down
/// so that every part starts on a multiple of 16 bytes where possible; `None` when it fits whole.
/// All planes are split alike.
pub fn rows_per_part(meta: Meta, max_binding: u64) -> Option<usize> {
    let largest = meta.format().map_or(meta.bytes(), |format| format.largest_plane(meta.shape));
    if largest as u64 <= max_binding {
        return None;
    }
    let row = largest / meta.shape.dims().first().copied().unwrap_or(1).max(1);
    let rows = max_binding as usize / row.max(1);
    Some(match rows {
        16.. => rows / 16 * 16,
        // Rows of gated products come in pairs.
        2.. => rows / 2 * 2,
        _ => 1,
    })
}

/// The parts of `total` rows, `rows` at a time.
pub fn parts(total: usize, rows: usize) -> impl Iterator<Item = Part> {
    let step = rows.max(1);
    (0..total).step_by(step).map(move |first| Part { first, rows: step.min(total - first) })
}
