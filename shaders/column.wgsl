// y[i] = x[i, column]: one column of a matrix.
//
// x: [count, cols]; y: [count]. One invocation per row.
//
// Safety: a row is checked against `count`; the host keeps `column` below `cols`.
#import fold

struct Params {
    count: u32,
    cols: u32,
    column: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;       // [count, cols]
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [count]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i >= params.count) {
        return;
    }
    y[i] = x[i * params.cols + params.column];
}
