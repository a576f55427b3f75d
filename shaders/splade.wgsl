// y[b, c] = max_t mask[b, t] ln(1 + max(x[b, t, c], 0)), which is the logarithm of the largest.
//
// x: [batch, tokens, cols]; mask: [batch, tokens]; y: [batch, cols]. A workgroup takes 64
// columns of one sequence, an invocation one column, eight tokens a round.
//
// Safety: sequence and column are checked against batch and cols, tokens against `tokens`.
#import fold

const HAS_MASK: bool = true;

struct Params {
    batch: u32,
    tokens: u32,
    cols: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;       // [batch, tokens, cols]
@group(0) @binding(1) var<storage, read> mask: array<u32>;    // [batch, tokens], 1 = real
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [batch, cols]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let groups_per_row = (params.cols + 63u) / 64u;
    let group = fold(workgroup, grid);
    let b = group / groups_per_row;
    let c = group % groups_per_row * 64u + lane;
    if (b >= params.batch || c >= params.cols) {
        return;
    }
    let first = b * params.tokens;
    var top = 0.0;
    for (var step = 0u; step < params.tokens; step += 8u) {
        for (var j = 0u; j < 8u; j++) { // unroll
            let t = step + j;
            var real = t < params.tokens;
            if (HAS_MASK && real) {
                real = mask[first + t] != 0u;
            }
            if (real) {
                top = max(top, x[(first + t) * params.cols + c]);
            }
        }
    }
    // Exactly 0 where no token speaks for the word, whatever a driver makes of ln(1).
    y[b * params.cols + c] = select(log(1.0 + top), 0.0, top == 0.0);
}
