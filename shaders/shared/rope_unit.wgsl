// A unit of rope_append and of norm_rope_append: four columns of a head, two and two, which are those of
// two neighbouring pairs. Where it lies, how it turns, where it goes.

const HEAD_DIM: u32 = 64u;
const ROTARY_DIM: u32 = 64u;
const N_HEADS: u32 = 12u;
const N_KV_HEADS: u32 = 12u;
const INTERLEAVED: bool = false;
const HAS_POSITIONS: bool = false;

const HALF: u32 = ROTARY_DIM / 2u;
const UNITS: u32 = HEAD_DIM / 4u; // of a head
const KV_WIDTH: u32 = N_KV_HEADS * HEAD_DIM;
const HEADS: u32 = N_HEADS + 2u * N_KV_HEADS; // of a token

struct Params {
    count: u32, // what there is to do, as each kernel counts it
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
    eps: f32,             // of the norm, if there is one
}
var<immediate> params: Params;

#import cache_f32

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> cos: array<f32>;       // [table_rows, HALF]
@group(0) @binding(4) var<storage, read> sin: array<f32>;       // [table_rows, HALF]
@group(0) @binding(5) var<storage, read> positions: array<u32>; // [tokens] or [batch, tokens]
@group(0) @binding(6) var<storage, read_write> q: array<f32>;

// Columns of one head, and the columns of a head that they are: from `low` and from `high` on two each.
struct Unit {
    low: u32,
    high: u32,
    values: vec4<f32>,
}

// One head of one token.
struct Head {
    token: u32, // of its sequence
    batch: u32,
    head: u32,  // queries come first, then keys, then values
    first: u32, // its first column, in x
}

// Head `i` of all tokens' heads.
fn head_at(i: u32) -> Head {
    let row = i / HEADS;
    let head = i % HEADS;
    var column = params.q_column + head * HEAD_DIM;
    if (head >= N_HEADS + N_KV_HEADS) {
        column = params.v_column + (head - N_HEADS - N_KV_HEADS) * HEAD_DIM;
    } else if (head >= N_HEADS) {
        column = params.k_column + (head - N_HEADS) * HEAD_DIM;
    }
    return Head(row % params.tokens, row / params.tokens, head, row * params.row + column);
}

// Unit `u` of a head as it is in x.
fn load_unit(h: Head, u: u32) -> Unit {
    let turns = h.head < N_HEADS + N_KV_HEADS && u < HALF / 2u && !INTERLEAVED;
    let low = select(4u * u, 2u * u, turns);
    let high = select(low + 2u, low + HALF, turns);
    let a = h.first + low;
    let b = h.first + high;
    return Unit(low, high, vec4(x[a], x[a + 1u], x[b], x[b + 1u]));
}

// The unit of a query or key at its token's position.
fn turn(h: Head, u: u32, v: vec4<f32>) -> vec4<f32> {
    if (u >= HALF / 2u) {
        return v;
    }
    var position = params.offset + h.token;
    if (HAS_POSITIONS) {
        position = positions[h.batch * params.batch_positions + h.token];
    }
    let angle = min(position, params.table_rows - 1u) * HALF + 2u * u;
    let c = vec2(cos[angle], cos[angle + 1u]);
    let s = vec2(sin[angle], sin[angle + 1u]);
    if (INTERLEAVED) {
        let a = v.xz * c - v.yw * s;
        let b = v.yw * c + v.xz * s;
        return vec4(a.x, b.x, a.y, b.y);
    }
    return vec4(v.xy * c - v.zw * s, v.zw * c + v.xy * s);
}

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

// Puts a unit where it belongs: into q, or into a cache if there is room for its token.
fn store_unit(h: Head, unit: Unit) {
    if (h.head < N_HEADS) {
        let to = ((h.batch * params.tokens + h.token) * N_HEADS + h.head) * HEAD_DIM;
        q[to + unit.low] = unit.values.x;
        q[to + unit.low + 1u] = unit.values.y;
        q[to + unit.high] = unit.values.z;
        q[to + unit.high + 1u] = unit.values.w;
        return;
    }
    if (params.past + h.token >= params.context) {
        return;
    }
    let row = (h.batch * params.context + params.past + h.token) * KV_WIDTH;
    if (h.head < N_HEADS + N_KV_HEADS) {
        let to = row + (h.head - N_HEADS) * HEAD_DIM;
        keep_key(to + unit.low, unit.values.xy);
        keep_key(to + unit.high, unit.values.zw);
    } else {
        let to = row + (h.head - N_HEADS - N_KV_HEADS) * HEAD_DIM;
        keep_value(to + unit.low, unit.values.xy);
        keep_value(to + unit.high, unit.values.zw);
    }
}
