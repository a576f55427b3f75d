// positions[b, t] = base + max(offset + t - pads[b], 0): the positions of new tokens in sequences that
// are padded on the left.
//
// pads: [batch]; positions: [batch, tokens]. One invocation per position.
//
// Safety: a position is checked against `count` = batch * tokens, which bounds its batch.
#import fold

const HAS_PADS: bool = false;

struct Params {
    count: u32,
    tokens: u32,
    offset: u32,
    base: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> pads: array<u32>;            // [batch]
@group(0) @binding(1) var<storage, read_write> positions: array<u32>; // [batch, tokens]

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
    let at = params.offset + i % params.tokens;
    var pad = 0u;
    if (HAS_PADS) {
        pad = pads[i / params.tokens];
    }
    positions[i] = params.base + at - min(pad, at);
}
