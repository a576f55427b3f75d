//! What the kernels over single elements share: one invocation per element of the result.

use super::kernel::Dispatch;
use super::op::Call;
use crate::gpu::fold;

/// Invocations per workgroup in the shaders.
const THREADS: usize = 64;

crate::params! {
    /// Twin of `Params` in shaders whose only size is the number of elements.
    pub(super) struct Params { count: u32 }
}

/// Element counts to test with: one, around a workgroup, a prime, several workgroups.
pub(super) const COUNTS: [usize; 6] = [1, 63, 64, 65, 131, 4099];

/// As many as the largest vocabulary has entries.
pub(super) const LONG: usize = 262_144;

/// The grid for `count` invocations.
pub(super) fn grid(count: usize) -> [u32; 3] {
    fold(count.div_ceil(THREADS))
}

/// One invocation per element of the first result.
pub(super) fn dispatch(call: &Call<'_>) -> Dispatch {
    let count = call.output(0).shape.numel();
    Dispatch::new(&Params { count: count as u32 }, grid(count))
}

crate::params! {
    /// Twin of `Params` in shaders that also need the length of a row.
    pub(super) struct RowParams { count: u32, cols: u32 }
}

/// One invocation per element of the first result, with the length of its rows.
pub(super) fn dispatch_rows(call: &Call<'_>) -> Dispatch {
    let y = call.output(0).shape;
    let params = RowParams { count: y.numel() as u32, cols: y.last() as u32 };
    Dispatch::new(&params, grid(y.numel()))
}
