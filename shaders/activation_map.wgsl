// y = activate(x), element by element; ACT picks the function.
//
// x, y: [count]. Invocation i takes element i.
//
// Safety: every index is checked against `count`, the size of x and y, before use.
#import fold
#import activation
#import store_f32

struct Params {
    count: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;       // [count]
@group(0) @binding(1) var<storage, read_write> y: array<Stored>; // [count]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i < params.count) {
        y[i] = stored(activate(x[i]));
    }
}
