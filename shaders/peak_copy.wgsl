// The device's copy bandwidth as kernels see it: y = x in 16-byte vectors.
//
// x, y: [vectors] of vec4. Invocation l of a workgroup takes vectors l, l + THREADS, … of its
// block of THREADS * PER_INVOCATION.
//
// Safety: x and y are indexed only below `vectors`, their size.
#import fold

const THREADS: u32 = 256u;
const PER_INVOCATION: u32 = 4u;

struct Params {
    vectors: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;       // [vectors]
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>; // [vectors]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = fold(workgroup, grid) * THREADS * PER_INVOCATION + lane;
    for (var v = 0u; v < PER_INVOCATION; v++) {
        let i = first + v * THREADS;
        if (i < params.vectors) {
            y[i] = x[i];
        }
    }
}
