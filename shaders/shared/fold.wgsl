// Linear workgroup index of a 1-D dispatch that was folded over x and y because a grid
// dimension is limited to 65,535 workgroups. The last row may be partly empty: check bounds.
fn fold(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 {
    return workgroup.y * grid.x + workgroup.x;
}
