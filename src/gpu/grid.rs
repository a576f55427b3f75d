//! Grids of workgroups.

/// The most workgroups a dispatch may have in one dimension, on any device.
pub const MAX_GROUPS: u32 = 65_535;

/// A grid for `groups` workgroups counted in one dimension, folded over x and y when they
/// exceed [`MAX_GROUPS`]; kernels undo it with `fold` and check bounds.
pub fn fold(groups: usize) -> [u32; 3] {
    let limit = MAX_GROUPS as usize;
    let y = groups.div_ceil(limit).max(1);
    // Both factors fit: x <= 65,535, and y does for every buffer a device can hold.
    [groups.div_ceil(y) as u32, y as u32, 1]
}
