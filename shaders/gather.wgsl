// y[b, m, c] = x[b, picks[b, m], c]: some tokens of every sequence.
//
// x: [batch, tokens, cols]; picks: [batch, m]; y: [batch, m, cols]. One invocation per element.
//
// Safety: an element is checked against `count`, which bounds its pick and its column, and a
// pick is clamped below `tokens`, which is at least 1.
#import fold

struct Params {
    count: u32,
    tokens: u32,
    picks: u32,
    cols: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;       // [batch, tokens, cols]
@group(0) @binding(1) var<storage, read> picks: array<u32>;   // [batch, m]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [batch, m, cols]

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
    let pick = i / params.cols;
    let token = min(picks[pick], params.tokens - 1u);
    let row = pick / params.picks * params.tokens + token;
    y[i] = x[row * params.cols + i % params.cols];
}
