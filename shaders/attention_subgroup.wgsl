// Attention, one subgroup per workgroup, for devices whose subgroups are the lanes of a CPU's vector
// unit.
//
//   out[b, i, h, :] = sum_j softmax_j(finish_score(scale * q[b, i, h, :] . k[b, j, g, :])) v[b, j, g, :]
//   g = h / (H / G)
//
// with the softmax computed online (Milakov & Gimelshein 2018; Dao et al. 2022). A workgroup owns
// BLOCK_Q queries of one head: lane l owns queries l, l + SUBGROUP, ... (ROWS of them), with their rows
// of q and of the output in private memory. Keys come KEYS at a time. Each lane loads a part of one
// key, and shuffles by constants hand it to all lanes: on such a device a load whose address differs by
// lane is a loop over lanes, so every element is loaded once per workgroup and used by all its queries.
//
// Private arrays are registers or stack slots only while every index is a constant once calls are
// inlined; hence the steps are unrolled by hand, under constant conditions.
//
// Safety: queries and keys are clamped to q_len - 1 and kv_len - 1 before an address is made of them
// (the key loop runs only if kv_len > 0), heads and batches come from a checked group index, buckets
// are clamped, and no workgroup memory is used.

#import fold
#import attention_common
#import attention_io_vec4
#import attention_kv_vec4
#import attention_steps

// Lanes of a subgroup, which is the workgroup.
const SUBGROUP: u32 = 8u;
// Queries per lane: 1, 2 or 4.
const ROWS: u32 = 4u;
// Queries per workgroup: SUBGROUP * ROWS.
const BLOCK_Q: u32 = 32u;
// Keys per step: 4, or 8 when the subgroup has as many lanes.
const KEYS: u32 = 8u;

// Vector i of the lane's row r, at 4 i + r: the scaled query, the sum of weighted values.
var<private> query_rows: array<vec4<f32>, DIM4 * 4u>;
var<private> sums: array<vec4<f32>, DIM4 * 4u>;
// Row r against keys 0..4 of the step at 2 r, against keys 4..8 at 2 r + 1: scores, then weights.
var<private> p: array<vec4<f32>, 8>;
// Which of those keys are not padding.
var<private> real: array<vec4<bool>, 2>;
// Per row: the largest score so far, the sum of weights, what earlier sums are worth against the
// newest maximum.
var<private> row_max: array<f32, 4>;
var<private> row_sum: array<f32, 4>;
var<private> rescale: array<f32, 4>;

fn dots(x: vec4<f32>, k0: vec4<f32>, k1: vec4<f32>, k2: vec4<f32>, k3: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(x, k0), dot(x, k1), dot(x, k2), dot(x, k3));
}

fn weighted(w: vec4<f32>, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> vec4<f32> {
    return w.x * v0 + w.y * v1 + w.z * v2 + w.w * v3;
}

// Vector i of four keys against all rows; half is 0 for keys 0..4 of the step, 1 for keys 4..8.
fn score_keys(
    i: u32,
    half: u32,
    k0: vec4<f32>,
    k1: vec4<f32>,
    k2: vec4<f32>,
    k3: vec4<f32>,
) {
    p[half] += dots(query_rows[4u * i], k0, k1, k2, k3);
    if (ROWS > 1u) {
        p[2u + half] += dots(query_rows[4u * i + 1u], k0, k1, k2, k3);
    }
    if (ROWS > 2u) {
        p[4u + half] += dots(query_rows[4u * i + 2u], k0, k1, k2, k3);
        p[6u + half] += dots(query_rows[4u * i + 3u], k0, k1, k2, k3);
    }
}

// Adds the products of vector i to all scores of the step. x: that vector of the lane's key.
fn score_vector(i: u32, x: vec4<f32>) {
    score_keys(
        i,
        0u,
        subgroupShuffle(x, 0u),
        subgroupShuffle(x, 1u),
        subgroupShuffle(x, 2u),
        subgroupShuffle(x, 3u),
    );
    if (KEYS > 4u) {
        score_keys(
            i,
            1u,
            subgroupShuffle(x, 4u),
            subgroupShuffle(x, 5u),
            subgroupShuffle(x, 6u),
            subgroupShuffle(x, 7u),
        );
    }
}

// Four values weighed into vector i of all rows.
fn add_values(
    i: u32,
    half: u32,
    v0: vec4<f32>,
    v1: vec4<f32>,
    v2: vec4<f32>,
    v3: vec4<f32>,
) {
    sums[4u * i] += weighted(p[half], v0, v1, v2, v3);
    if (ROWS > 1u) {
        sums[4u * i + 1u] += weighted(p[2u + half], v0, v1, v2, v3);
    }
    if (ROWS > 2u) {
        sums[4u * i + 2u] += weighted(p[4u + half], v0, v1, v2, v3);
        sums[4u * i + 3u] += weighted(p[6u + half], v0, v1, v2, v3);
    }
}

// Weighs vector i of the step's values into all rows. x: that vector of the lane's value.
fn value_vector(i: u32, x: vec4<f32>) {
    sums[4u * i] *= rescale[0];
    if (ROWS > 1u) {
        sums[4u * i + 1u] *= rescale[1];
    }
    if (ROWS > 2u) {
        sums[4u * i + 2u] *= rescale[2];
        sums[4u * i + 3u] *= rescale[3];
    }
    add_values(
        i,
        0u,
        subgroupShuffle(x, 0u),
        subgroupShuffle(x, 1u),
        subgroupShuffle(x, 2u),
        subgroupShuffle(x, 3u),
    );
    if (KEYS > 4u) {
        add_values(
            i,
            1u,
            subgroupShuffle(x, 4u),
            subgroupShuffle(x, 5u),
            subgroupShuffle(x, 6u),
            subgroupShuffle(x, 7u),
        );
    }
}

fn seen_keys(query: u32, first: u32, half: u32) -> vec4<bool> {
    let key = first + 4u * half;
    let seen = vec4<bool>(
        sees(query, key),
        sees(query, key + 1u),
        sees(query, key + 2u),
        sees(query, key + 3u),
    );
    return select(vec4<bool>(), seen, real[half]);
}

fn finish_scores(dots: vec4<f32>, b: u32, h: u32, query: u32, first: u32, half: u32) -> vec4<f32> {
    let key = first + 4u * half;
    let last = params.kv_len - 1u;
    return vec4<f32>(
        finish_score(dots.x, b, h, query, min(key, last)),
        finish_score(dots.y, b, h, query, min(key + 1u, last)),
        finish_score(dots.z, b, h, query, min(key + 2u, last)),
        finish_score(dots.w, b, h, query, min(key + 3u, last)),
    );
}

fn largest(x: vec4<f32>) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

fn weights(scores: vec4<f32>, top: f32, seen: vec4<bool>) -> vec4<f32> {
    return select(vec4<f32>(), exp(max(scores - top, vec4<f32>(-87.0))), seen);
}

// Turns the step's dot products of row r into weights, and updates the row's maximum and sum.
fn softmax_row(r: u32, b: u32, h: u32, query: u32, first: u32) {
    let low = 2u * r;
    let seen_low = seen_keys(query, first, 0u);
    let low_scores = finish_scores(p[low], b, h, query, first, 0u);
    var top = max(row_max[r], largest(select(vec4<f32>(NO_SCORE), low_scores, seen_low)));
    if (KEYS > 4u) {
        let seen_high = seen_keys(query, first, 1u);
        let high_scores = finish_scores(p[low + 1u], b, h, query, first, 1u);
        top = max(top, largest(select(vec4<f32>(NO_SCORE), high_scores, seen_high)));
        p[low + 1u] = weights(high_scores, top, seen_high);
    }
    p[low] = weights(low_scores, top, seen_low);
    // Before the row's first key the factor is arbitrary: it meets sums of 0.
    rescale[r] = weight_of(row_max[r] - top);
    row_max[r] = top;
    row_sum[r] = row_sum[r] * rescale[r] + dot(p[low] + p[low + 1u], vec4<f32>(1.0));
}

// The two loops below and those of store_row are as long as a driver is sure to unroll.
const UNROLLED: u32 = min(DIM4, 32u);

fn load_row(e: u32, r: u32) {
    for (var i = 0u; i < UNROLLED; i++) {
        query_rows[4u * i + r] = load_q(e, i) * params.scale;
    }
    for (var i = UNROLLED; i < DIM4; i++) {
        query_rows[4u * i + r] = load_q(e, i) * params.scale;
    }
}

fn store_row(e: u32, r: u32) {
    let factor = select(0.0, 1.0 / max(row_sum[r], 1e-38), row_sum[r] > 0.0);
    for (var i = 0u; i < UNROLLED; i++) {
        store_out(e, i, sums[4u * i + r] * factor);
    }
    for (var i = UNROLLED; i < DIM4; i++) {
        store_out(e, i, sums[4u * i + r] * factor);
    }
}

@compute @workgroup_size(SUBGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let blocks = (params.q_len + BLOCK_Q - 1u) / BLOCK_Q;
    let group = fold(workgroup, grid);
    if (group >= blocks * params.n_heads * params.batch) {
        return;
    }
    // Early and late blocks alternate, so that any run of workgroups has causal blocks of all lengths.
    let turn = group % blocks;
    let block = select(turn / 2u, blocks - 1u - turn / 2u, turn % 2u == 1u);
    let h = (group / blocks) % params.n_heads;
    let b = group / (blocks * params.n_heads);
    let g = h / (params.n_heads / params.n_kv_heads);

    let last_query = params.q_len - 1u;
    let block_start = block * BLOCK_Q;
    let query0 = block_start + lane;
    let query1 = query0 + SUBGROUP;
    let query2 = query1 + SUBGROUP;
    let query3 = query2 + SUBGROUP;
    let q_base = params.q_start + b * params.q_batch + h * params.q_head;
    load_row(q_base + min(query0, last_query) * params.q_token, 0u);
    if (ROWS > 1u) {
        load_row(q_base + min(query1, last_query) * params.q_token, 1u);
    }
    if (ROWS > 2u) {
        load_row(q_base + min(query2, last_query) * params.q_token, 2u);
        load_row(q_base + min(query3, last_query) * params.q_token, 3u);
    }
    row_max = array<f32, 4>(NO_SCORE, NO_SCORE, NO_SCORE, NO_SCORE);
    real = array<vec4<bool>, 2>(vec4<bool>(true), vec4<bool>(true));

    let k_base = params.k_start + b * params.k_batch + g * params.k_head;
    let v_base = params.v_start + b * params.v_batch + g * params.v_head;
    let keys = visible_keys(block_start, min(block_start + BLOCK_Q, params.q_len) - 1u);
    for (var first = keys.first; first < keys.end; first += KEYS) {
        let key = min(first + lane % KEYS, params.kv_len - 1u);
        if (HAS_KEY_MASK) {
            let mine = key_mask[b * params.key_mask_batch + key];
            real[0] = vec4<bool>(
                subgroupShuffle(mine, 0u) != 0u,
                subgroupShuffle(mine, 1u) != 0u,
                subgroupShuffle(mine, 2u) != 0u,
                subgroupShuffle(mine, 3u) != 0u,
            );
            if (KEYS > 4u) {
                real[1] = vec4<bool>(
                    subgroupShuffle(mine, 4u) != 0u,
                    subgroupShuffle(mine, 5u) != 0u,
                    subgroupShuffle(mine, 6u) != 0u,
                    subgroupShuffle(mine, 7u) != 0u,
                );
            }
        }

        let k_row = k_base + key * params.k_token;
        p = array<vec4<f32>, 8>();
        score_key(k_row);

        softmax_row(0u, b, h, min(query0, last_query), first);
        if (ROWS > 1u) {
            softmax_row(1u, b, h, min(query1, last_query), first);
        }
        if (ROWS > 2u) {
            softmax_row(2u, b, h, min(query2, last_query), first);
            softmax_row(3u, b, h, min(query3, last_query), first);
        }

        let v_row = v_base + key * params.v_token;
        weigh_value(v_row);
    }

    let out_base = params.out_start + b * params.out_batch + h * params.out_head;
    if (query0 <= last_query) {
        store_row(out_base + query0 * params.out_token, 0u);
    }
    if (ROWS > 1u && query1 <= last_query) {
        store_row(out_base + query1 * params.out_token, 1u);
    }
    if (ROWS > 2u && query2 <= last_query) {
        store_row(out_base + query2 * params.out_token, 2u);
    }
    if (ROWS > 2u && query3 <= last_query) {
        store_row(out_base + query3 * params.out_token, 3u);
    }
}
