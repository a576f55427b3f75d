// Rotary positions and the cache in one pass over packed projections: queries are rotated into q, keys
// rotated into k_cache and values copied into v_cache, at positions offset + t. See rope and
// cache_append, which it stands for.
//
// x: [batch, tokens, row], with N_HEADS queries of HEAD_DIM columns from q_column on, N_KV_HEADS keys
// from k_column on and as many values from v_column on. q: [batch, tokens, N_HEADS * HEAD_DIM]. One
// invocation moves a unit of four columns, two and two: those of two neighbouring pairs. Of a token, first
// come the units of queries, then of keys, then of values.
//
// Safety: a unit is checked against batch * tokens * units, which bounds head and token, and its position
// against context before a cache is written; the host checked columns against row, and that dims
// are multiples of four. Angles are clamped to the tables' rows; positions has an entry per token.
#import fold

const HEAD_DIM: u32 = 64u;
const ROTARY_DIM: u32 = 64u;
const N_HEADS: u32 = 12u;
const N_KV_HEADS: u32 = 12u;
const INTERLEAVED: bool = false;
const HAS_POSITIONS: bool = false;

const HALF: u32 = ROTARY_DIM / 2u;
const UNITS: u32 = HEAD_DIM / 4u; // of a head
const KV_WIDTH: u32 = N_KV_HEADS * HEAD_DIM;

struct Params {
    count: u32, // batch * tokens * units of a token
    tokens: u32,
    context: u32,
    row: u32,
    q_column: u32,
    k_column: u32,
    v_column: u32,
    past: u32,            // tokens in the caches
    offset: u32,          // position of token 0, without `positions`
    batch_positions: u32, // `tokens` if positions is [batch, tokens], 0 if it is [tokens]
    table_rows: u32,
}
var<immediate> params: Params;

#import cache_f32

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> cos: array<f32>;       // [table_rows, HALF]
@group(0) @binding(4) var<storage, read> sin: array<f32>;       // [table_rows, HALF]
@group(0) @binding(5) var<storage, read> positions: array<u32>; // [tokens] or [batch, tokens]
@group(0) @binding(6) var<storage, read_write> q: array<f32>;

// Two neighbouring columns of a cache, from an even one on.
fn keep_key(at: u32, pair: vec2<f32>) {
    keep_k(at / PER_WORD, pair.x, pair.y);
    if (PER_WORD == 1u) {
        keep_k(at + 1u, pair.y, pair.y);
    }
}

fn keep_value(at: u32, pair: vec2<f32>) {
    keep_v(at / PER_WORD, pair.x, pair.y);
    if (PER_WORD == 1u) {
        keep_v(at + 1u, pair.y, pair.y);
    }
}

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
    let of_token = (N_HEADS + 2u * N_KV_HEADS) * UNITS;
    let token_row = i / of_token;
    let token = token_row % params.tokens;
    let batch = token_row / params.tokens;
    let head = i % of_token / UNITS;
    let unit = i % UNITS;

    let cached = batch * params.context + params.past + token; // a row of the caches
    let kept = params.past + token < params.context;
    let row_start = token_row * params.row;
    if (head >= N_HEADS + N_KV_HEADS) {
        if (kept) {
            let column = (head - N_HEADS - N_KV_HEADS) * HEAD_DIM + 4u * unit;
            let value = row_start + params.v_column + column;
            let to = cached * KV_WIDTH + column;
            keep_value(to, vec2(x[value], x[value + 1u]));
            keep_value(to + 2u, vec2(x[value + 2u], x[value + 3u]));
        }
        return;
    }

    // The unit's columns are `first`, the next one, `second` and the next one.
    let turns = unit < HALF / 2u;
    let apart = turns & !INTERLEAVED;
    let first = select(4u * unit, 2u * unit, apart);
    let second = select(first + 2u, first + HALF, apart);
    let of_key = head >= N_HEADS;
    let start = row_start
        + select(params.q_column + head * HEAD_DIM, params.k_column + (head - N_HEADS) * HEAD_DIM, of_key);
    var low = vec2(x[start + first], x[start + first + 1u]);
    var high = vec2(x[start + second], x[start + second + 1u]);
    if (turns) {
        var position = params.offset + token;
        if (HAS_POSITIONS) {
            position = positions[batch * params.batch_positions + token];
        }
        let angle = min(position, params.table_rows - 1u) * HALF + 2u * unit;
        let c = vec2(cos[angle], cos[angle + 1u]);
        let s = vec2(sin[angle], sin[angle + 1u]);
        if (INTERLEAVED) {
            let a = vec2(low.x, high.x);
            let b = vec2(low.y, high.y);
            let turned_a = a * c - b * s;
            let turned_b = b * c + a * s;
            low = vec2(turned_a.x, turned_b.x);
            high = vec2(turned_a.y, turned_b.y);
        } else {
            let a = low;
            low = a * c - high * s;
            high = high * c + a * s;
        }
    }
    if (!of_key) {
        let to = (token_row * N_HEADS + head) * HEAD_DIM;
        q[to + first] = low.x;
        q[to + first + 1u] = low.y;
        q[to + second] = high.x;
        q[to + second + 1u] = high.y;
    } else if (kept) {
        let to = cached * KV_WIDTH + (head - N_HEADS) * HEAD_DIM;
        keep_key(to + first, low);
        keep_key(to + second, high);
    }
}
