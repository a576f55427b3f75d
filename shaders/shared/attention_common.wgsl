// What every attention kernel shares: the variant's constants, the parameters, the operands that
// change scores. Letters: B batch, H query heads, G key/value heads, T queries, S keys.
#import attention_dim

// A query at position p sees keys 0..=p. Implied by HAS_WINDOW.
const CAUSAL: bool = false;
// A query at position p sees keys p - window + 1 ..= p, or ..= p + ahead if HAS_AHEAD.
const HAS_WINDOW: bool = false;
const HAS_AHEAD: bool = false;
const HAS_KEY_MASK: bool = false;
const HAS_SOFTCAP: bool = false;
// 0: none. 1: a tensor added to the scores. 2: a table [n_buckets, H], looked up by distance.
const BIAS: u32 = 0u;

struct Params {
    batch: u32,
    n_heads: u32,
    n_kv_heads: u32,
    q_len: u32,
    kv_len: u32,
    // Position of query 0 among the keys.
    q_offset: i32,
    window: u32,
    ahead: i32,
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

// Where head h, or key/value head g, of batch b starts.
fn q_base(b: u32, h: u32) -> u32 {
    return params.q_start + b * params.q_batch + h * params.q_head;
}

fn k_base(b: u32, g: u32) -> u32 {
    return params.k_start + b * params.k_batch + g * params.k_head;
}

fn v_base(b: u32, g: u32) -> u32 {
    return params.v_start + b * params.v_batch + g * params.v_head;
}

fn out_base(b: u32, h: u32) -> u32 {
    return params.out_start + b * params.out_batch + h * params.out_head;
}
