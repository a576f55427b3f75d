// Rotary position embedding: each pair (a, b) of a head becomes
// (a cos - b sin, b cos + a sin), with the angle of the pair at the token's position.
//
// HEADS_FIRST: x [batch, heads, tokens, HEAD_DIM]; otherwise x [batch, tokens, row], head h of
// a token at columns column + h HEAD_DIM. y: [batch, heads, tokens, HEAD_DIM], respectively
// [batch, tokens, heads, HEAD_DIM]. Pair i is (i, i + ROTARY_DIM / 2), or (2i, 2i + 1) under
// INTERLEAVED; columns from ROTARY_DIM on are copied, two by two. One invocation per pair.
//
// Safety: a pair is checked against `pairs` = size of y / 2 before use, which bounds head and
// token; x has the same heads and tokens, at columns the host checked against `row`. Positions
// are clamped to the tables' rows, and positions[] is indexed below [batch,] tokens.
#import fold

const HEAD_DIM: u32 = 64u;
const ROTARY_DIM: u32 = 64u;
const N_HEADS: u32 = 12u;
const HEADS_FIRST: bool = false;
const INTERLEAVED: bool = false;
const HAS_POSITIONS: bool = false;

const HALF: u32 = ROTARY_DIM / 2u;

struct Params {
    pairs: u32,
    tokens: u32,
    row: u32,             // elements between tokens of x, when tokens come first
    column: u32,          // the first head's first column in such a row
    offset: u32,          // position of token 0, without `positions`
    batch_positions: u32, // `tokens` if positions is [batch, tokens], 0 if it is [tokens]
    table_rows: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> cos: array<f32>;       // [table_rows, HALF]
@group(0) @binding(2) var<storage, read> sin: array<f32>;       // [table_rows, HALF]
@group(0) @binding(3) var<storage, read> positions: array<u32>; // [tokens] or [batch, tokens]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i >= params.pairs) {
        return;
    }
    let pair = i % (HEAD_DIM / 2u);
    let head_row = i / (HEAD_DIM / 2u); // of y, in y's order
    var token: u32;
    var batch: u32;
    var from_start: u32;
    if (HEADS_FIRST) {
        token = head_row % params.tokens;
        batch = head_row / params.tokens / N_HEADS;
        from_start = head_row * HEAD_DIM;
    } else {
        let token_row = head_row / N_HEADS;
        token = token_row % params.tokens;
        batch = token_row / params.tokens;
        from_start = token_row * params.row + params.column + head_row % N_HEADS * HEAD_DIM;
    }
    let to_start = head_row * HEAD_DIM;

    if (pair >= HALF) {
        let d = 2u * pair;
        y[to_start + d] = x[from_start + d];
        y[to_start + d + 1u] = x[from_start + d + 1u];
        return;
    }
    var position = params.offset + token;
    if (HAS_POSITIONS) {
        position = positions[batch * params.batch_positions + token];
    }
    let angle = min(position, params.table_rows - 1u) * HALF + pair;
    let c = cos[angle];
    let s = sin[angle];
    let first = select(pair, 2u * pair, INTERLEAVED);
    let second = select(pair + HALF, 2u * pair + 1u, INTERLEAVED);
    let a = x[from_start + first];
    let b = x[from_start + second];
    y[to_start + first] = a * c - b * s;
    y[to_start + second] = b * c + a * s;
}
