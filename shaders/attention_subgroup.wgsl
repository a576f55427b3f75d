// Attention, one subgroup per workgroup, for devices whose subgroups are the lanes of a CPU's vector
// unit.
//
//   out[b, i, h, :] = sum_j softmax_j(finish_score(scale * q[b, i, h, :] . k[b, j, g, :])) v[b, j, g, :]
//   g = h / (H / G)
//
// A workgroup owns BLOCK_Q queries of one head: lane l owns queries l, l + SUBGROUP, ... (ROWS of
// them), with their rows of q and of the output in private memory. Keys come KEYS at a time. Each
// lane loads a part of one key, and shuffles by constants hand it to all lanes: on such a device a
// load whose address differs by lane is a loop over lanes, so every element is loaded once per
// workgroup and used by all its queries.
//
// Safety: queries and keys are clamped to q_len - 1 and kv_len - 1 before an address is made of them
// (the key loop runs only if kv_len > 0), heads and batches come from a checked group index, buckets
// are clamped, and no workgroup memory is used.

#import fold
#import attention_common
#import attention_mask
#import attention_score
#import attention_block
#import attention_q_vec4
#import attention_out_vec4
#import attention_kv_vec4
#import online_softmax

// Lanes of a subgroup, which is the workgroup.
const SUBGROUP: u32 = 8u;
// Queries per lane.
const ROWS: u32 = 4u;
// Queries per workgroup: SUBGROUP * ROWS.
const BLOCK_Q: u32 = 32u;
// Keys per step: 4, or 8 when the subgroup has as many lanes.
const KEYS: u32 = 8u;

// Fours of keys per step.
const FOURS: u32 = KEYS / 4u;

// Row r of the lane: vector i of its scaled query and of its weighted values at i ROWS + r.
var<private> queries: array<vec4<f32>, DIM4 * ROWS>;
var<private> sums: array<vec4<f32>, DIM4 * ROWS>;
var<private> states: array<Running, ROWS>;
// Row r against keys 4f .. 4f + 4 of the step, at r FOURS + f: scores, then weights.
var<private> p: array<vec4<f32>, ROWS * FOURS>;
// Which of those keys are not padding.
var<private> real: array<vec4<bool>, FOURS>;

fn load_rows(block: Block, lane: u32) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        let query = min(block.first_query + lane + r * SUBGROUP, params.q_len - 1u);
        let e = q_base(block.b, block.h) + query * params.q_token;
        for (var i = 0u; i < DIM4; i++) { // unroll
            queries[i * ROWS + r] = load_q(e, i) * params.scale;
            sums[i * ROWS + r] = vec4(0.0);
        }
        states[r] = nothing_seen();
    }
}

// The products of all rows with the step's keys, of which the lane's starts at element e. A row
// vector times a matrix is a dot product per column.
fn score_keys(e: u32) {
    for (var n = 0u; n < ROWS * FOURS; n++) { // unroll
        p[n] = vec4(0.0);
    }
    for (var i = 0u; i < DIM4; i += 2u) { // unroll
        let mine = load_k(e, i);
        for (var j = 0u; j < min(2u, DIM4 - i); j++) { // unroll
            let x = mine[j];
            for (var f = 0u; f < FOURS; f++) { // unroll
                let four = mat4x4(
                    subgroupShuffle(x, 4u * f),
                    subgroupShuffle(x, 4u * f + 1u),
                    subgroupShuffle(x, 4u * f + 2u),
                    subgroupShuffle(x, 4u * f + 3u),
                );
                for (var r = 0u; r < ROWS; r++) { // unroll
                    p[r * FOURS + f] += queries[(i + j) * ROWS + r] * four;
                }
            }
        }
    }
}

// Turns the scores of the step, which begins with key `first`, into weights.
fn softmax_keys(block: Block, lane: u32, first: u32) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        let query = min(block.first_query + lane + r * SUBGROUP, params.q_len - 1u);
        var top = vec4(NO_SCORE);
        for (var f = 0u; f < FOURS; f++) { // unroll
            var scores = p[r * FOURS + f];
            for (var c = 0u; c < 4u; c++) { // unroll
                let key = first + 4u * f + c;
                let near = min(key, params.kv_len - 1u);
                let score = finish_score(scores[c], block.b, block.h, query, near);
                scores[c] = masked(score, real[f][c] & sees(query, key));
            }
            p[r * FOURS + f] = scores;
            top = max(top, scores);
        }
        var state = raised(states[r], max(max(top.x, top.y), max(top.z, top.w)));
        var total = vec4(0.0);
        for (var f = 0u; f < FOURS; f++) { // unroll
            let weights = weights_of(p[r * FOURS + f] - state.top);
            p[r * FOURS + f] = weights;
            total += weights;
        }
        state.sum += dot(total, vec4(1.0));
        states[r] = state;
    }
}

// Weighs the step's values, of which the lane's starts at element e, into all rows.
fn weigh_values(e: u32) {
    for (var i = 0u; i < DIM4; i += 2u) { // unroll
        let mine = load_v(e, i);
        for (var j = 0u; j < min(2u, DIM4 - i); j++) { // unroll
            let x = mine[j];
            for (var r = 0u; r < ROWS; r++) { // unroll
                sums[(i + j) * ROWS + r] *= states[r].rescale;
            }
            for (var f = 0u; f < FOURS; f++) { // unroll
                let four = mat4x4(
                    subgroupShuffle(x, 4u * f),
                    subgroupShuffle(x, 4u * f + 1u),
                    subgroupShuffle(x, 4u * f + 2u),
                    subgroupShuffle(x, 4u * f + 3u),
                );
                for (var r = 0u; r < ROWS; r++) { // unroll
                    sums[(i + j) * ROWS + r] += four * p[r * FOURS + f];
                }
            }
        }
    }
}

fn store_rows(block: Block, lane: u32) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        let query = block.first_query + lane + r * SUBGROUP;
        if (query < params.q_len) {
            let e = out_base(block.b, block.h) + query * params.out_token;
            let factor = inverse_of(states[r].sum);
            for (var i = 0u; i < DIM4; i++) { // unroll
                store_out(e, i, sums[i * ROWS + r] * factor);
            }
        }
    }
}

@compute @workgroup_size(SUBGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let block = block_at(fold(workgroup, grid));
    if (!block.exists) {
        return;
    }
    load_rows(block, lane);
    for (var f = 0u; f < FOURS; f++) { // unroll
        real[f] = vec4(true);
    }

    let keys = visible_keys(block.first_query, last_of(block));
    for (var first = keys.first; first < keys.end; first += KEYS) {
        let key = min(first + lane % KEYS, params.kv_len - 1u);
        if (HAS_KEY_MASK) {
            let mine = u32(is_real(block.b, key));
            for (var f = 0u; f < FOURS; f++) { // unroll
                real[f] = vec4(
                    subgroupShuffle(mine, 4u * f) != 0u,
                    subgroupShuffle(mine, 4u * f + 1u) != 0u,
                    subgroupShuffle(mine, 4u * f + 2u) != 0u,
                    subgroupShuffle(mine, 4u * f + 3u) != 0u,
                );
            }
        }
        score_keys(k_base(block.b, block.g) + key * params.k_token);
        softmax_keys(block, lane, first);
        weigh_values(v_base(block.b, block.g) + key * params.v_token);
    }
    store_rows(block, lane);
}
