// y[i] = a[i] + b[i mod period]: period = n adds a residual, period = cols a bias row.
//
// a, y: [n]; b: [period]. Invocation i of a workgroup takes elements i, i + 64, … of its block.
//
// Safety: every element index is checked against n, the size of a and y, and taken modulo
// period, the size of b.
#import fold

const PER_INVOCATION: u32 = 4u;

struct Params {
    n: u32,
    period: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;       // [n]
@group(0) @binding(1) var<storage, read> b: array<f32>;       // [period]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [n]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = fold(workgroup, grid) * 64u * PER_INVOCATION + lane;
    for (var e = 0u; e < PER_INVOCATION; e++) {
        let i = first + e * 64u;
        if (i < params.n) {
            y[i] = a[i] + b[i % params.period];
        }
    }
}
