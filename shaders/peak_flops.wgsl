// The device's f32 arithmetic peak: multiply-adds on values that never leave registers.
//
// y: [invocations]. Each invocation advances 8 independent numbers, two vec4 chains, by
// `a = a * factor + term`, 32 times per iteration: 512 operations. The chains end in y, so that
// none of them is dead code. With 0 < factor < 1 they settle near term / (1 - factor).
//
// Safety: y is indexed only below `invocations`, its size.
#import fold

struct Params {
    invocations: u32,
    iterations: u32,
    factor: f32,
    term: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> y: array<f32>; // [invocations]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i >= params.invocations) {
        return;
    }
    let f = vec4<f32>(params.factor);
    let t = vec4<f32>(params.term);
    // Two vectors: enough chains for a CPU's latencies, few enough for its 16 vector registers.
    var a = vec4<f32>(0.0, 1.0, 2.0, 3.0) + f32(lane);
    var b = a + 4.0;
    for (var n = 0u; n < params.iterations; n++) {
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
        a = a * f + t; b = b * f + t; a = a * f + t; b = b * f + t;
    }
    y[i] = dot(a, b);
}
