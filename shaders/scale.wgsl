// y = scale x, or y = cap tanh(scale x / cap) under HAS_CAP, element by element.
//
// Safety: an element is checked against `count`, the size of x and y, before use.
#import fold

const HAS_CAP: bool = false;

struct Params {
    count: u32,
    scale: f32,
    cap: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;       // [count]
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
    let scaled = params.scale * x[i];
    if (HAS_CAP) {
        // Beyond 15 tanh is 1 in f32, and drivers disagree about large arguments.
        y[i] = params.cap * tanh(clamp(scaled / params.cap, -15.0, 15.0));
    } else {
        y[i] = scaled;
    }
}
