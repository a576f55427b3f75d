// What every attention kernel shares: the variant's constants, the parameters, the masks, and what
// is added to a score. Letters: B batch, H query heads, G key/value heads, T queries, S keys.

// Elements per head.
const HEAD_DIM: u32 = 64u;
// A query at position p sees keys 0..=p. Implied by HAS_WINDOW.
const CAUSAL: bool = false;
// A query at position p sees keys p - window + 1 ..= p.
const HAS_WINDOW: bool = false;
const HAS_KEY_MASK: bool = false;
const HAS_SOFTCAP: bool = false;
// 0: none. 1: a tensor added to the scores. 2: a table [n_buckets, H], looked up by distance.
const BIAS: u32 = 0u;

// Vectors of 4 elements per head; the last one is partly used when 4 does not divide HEAD_DIM.
const DIM4: u32 = (HEAD_DIM + 3u) / 4u;
// Below every score: the running maximum of a row that has seen no key.
const NO_SCORE: f32 = -3e38;

struct Params {
    batch: u32,
    n_heads: u32,
    n_kv_heads: u32,
    q_len: u32,
    kv_len: u32,
    // Position of query 0 among the keys.
    q_offset: i32,
    window: u32,
    scale: f32,
    softcap: f32,
    // Distances beyond it share a bucket.
    max_distance: u32,
    n_buckets: u32,
    // Elements between two batches of key_mask.
    key_mask_batch: u32,
    // First element, then elements between two batches, tokens and heads.
    q_start: u32,
    q_batch: u32,
    q_token: u32,
    q_head: u32,
    k_start: u32,
    k_batch: u32,
    k_token: u32,
    k_head: u32,
    v_start: u32,
    v_batch: u32,
    v_token: u32,
    v_head: u32,
    out_start: u32,
    out_batch: u32,
    out_token: u32,
    out_head: u32,
    // 0 where the bias does not vary.
    bias_batch: u32,
    bias_head: u32,
    bias_query: u32,
}

var<immediate> params: Params;

// [B, S]: 1 for a real key, 0 for padding.
@group(0) @binding(3) var<storage, read> key_mask: array<u32>;
// BIAS 1: [B|1, H|1, T|1, S]. BIAS 2: [n_buckets, H].
@group(0) @binding(4) var<storage, read> bias: array<f32>;
// [2 max_distance + 1]: the bucket of the distance key - query, from -max_distance on.
@group(0) @binding(5) var<storage, read> bucket: array<u32>;

struct Keys {
    first: u32,
    end: u32,
}

// The keys that any of the queries first_query..=last_query can see.
fn visible_keys(first_query: u32, last_query: u32) -> Keys {
    var keys = Keys(0u, params.kv_len);
    if (CAUSAL || HAS_WINDOW) {
        let end = i32(last_query) + params.q_offset + 1;
        keys.end = u32(clamp(end, 0, i32(params.kv_len)));
    }
    if (HAS_WINDOW) {
        let first = i32(first_query) + params.q_offset + 1 - i32(params.window);
        keys.first = u32(clamp(first, 0, i32(params.kv_len)));
    }
    return keys;
}

// Whether the query sees the key, key padding aside. `key` may lie beyond the last one.
// Without short circuits: SwiftShader's compiler does not come back from this many branches.
fn sees(query: u32, key: u32) -> bool {
    let position = i32(query) + params.q_offset;
    var visible = key < params.kv_len;
    if (CAUSAL || HAS_WINDOW) {
        visible &= i32(key) <= position;
    }
    if (HAS_WINDOW) {
        visible &= i32(key) + i32(params.window) > position;
    }
    return visible;
}

// The score of a query and a key, both in range, from their scaled dot product.
fn finish_score(dot: f32, b: u32, h: u32, query: u32, key: u32) -> f32 {
    var score = dot;
    if (HAS_SOFTCAP) {
        score = params.softcap * tanh(clamp(score / params.softcap, -15.0, 15.0));
    }
    if (BIAS == 1u) {
        score += bias[b * params.bias_batch + h * params.bias_head + query * params.bias_query + key];
    }
    if (BIAS == 2u) {
        let reach = i32(params.max_distance);
        let distance = i32(key) - i32(query) - params.q_offset;
        let row = min(bucket[u32(clamp(distance, -reach, reach) + reach)], params.n_buckets - 1u);
        score += bias[row * params.n_heads + h];
    }
    return score;
}

// exp of a difference of scores that is at most 0. What is too small to count is 0: products with it
// would be subnormal, which costs some processors a hundred times an ordinary product.
fn weight_of(difference: f32) -> f32 {
    return select(0.0, exp(max(difference, -80.0)), difference > -80.0);
}
