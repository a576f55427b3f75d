// Attention, tiled through workgroup memory.
//
//   out[b, i, h, :] = sum_j softmax_j(finish_score(scale * q[b, i, h, :] . k[b, j, g, :])) v[b, j, g, :]
//   g = h / (H / G)
//
// after Dao et al. 2022. A workgroup owns BLOCK_Q queries of one head and walks over the keys that
// any of them sees, BLOCK_K at a time, by an online softmax. Of its
// 8 x (BLOCK_Q / 4) invocations, (column, row) owns queries 4 row .. 4 row + 4; of each score tile the
// keys column, column + 8, ...; of the output the vectors column, column + 8, ... of the head.
//
// Safety: queries and keys are clamped to q_len - 1 and kv_len - 1 before an address is made of them
// (the key loop runs only if kv_len > 0), heads and batches come from a checked group index, and
// buckets are clamped. Every element of workgroup memory is written before the barrier that its
// readers wait at: tiles are filled whole, padding included.

#import fold
#import attention_common
#import attention_mask
#import attention_score
#import attention_block
#import attention_q_vec4
#import attention_out_vec4
#import attention_kv_vec4
#import online_softmax

// Queries per workgroup: a multiple of 4, at most 128.
const BLOCK_Q: u32 = 64u;
// Keys per tile: a multiple of 8.
const BLOCK_K: u32 = 16u;

const THREADS: u32 = BLOCK_Q * 2u;
const KEYS: u32 = BLOCK_K / 8u;
// Vectors of the output per invocation.
const VECTORS: u32 = (DIM4 + 7u) / 8u;
// Pairs of vectors of a head, as they are loaded.
const PAIRS: u32 = (DIM4 + 1u) / 2u;
// Vectors of a head between two keys of the tile; odd, so that 8 keys fall into different banks.
const PITCH: u32 = DIM4 | 1u;

// [BLOCK_K, PITCH]: the tile's keys, then its values.
var<workgroup> sh_kv: array<vec4<f32>, BLOCK_K * PITCH>;
// [BLOCK_K, BLOCK_Q / 4]: weights; component c belongs to query 4 row + c.
var<workgroup> sh_p: array<vec4<f32>, BLOCK_K * BLOCK_Q / 4u>;
// [8, BLOCK_Q / 4]: each column's largest score or sum of weights per query.
var<workgroup> sh_row: array<vec4<f32>, BLOCK_Q * 2u>;

// Where pair n of vectors of a tile lies: its key and its first vector.
fn place(n: u32) -> vec2<u32> {
    return vec2(n / PAIRS, n % PAIRS * 2u);
}

fn keep(at: vec2<u32>, x: mat2x4<f32>) {
    sh_kv[at.x * PITCH + at.y] = x[0];
    if (DIM4 % 2u == 0u || at.y + 1u < DIM4) {
        sh_kv[at.x * PITCH + at.y + 1u] = x[1];
    }
}

fn load_keys(base: u32, first: u32, thread: u32) {
    for (var n = thread; n < BLOCK_K * PAIRS; n += THREADS) {
        let at = place(n);
        let key = min(first + at.x, params.kv_len - 1u);
        keep(at, load_k(base + key * params.k_token, at.y));
    }
}

fn load_values(base: u32, first: u32, thread: u32) {
    for (var n = thread; n < BLOCK_K * PAIRS; n += THREADS) {
        let at = place(n);
        let key = min(first + at.x, params.kv_len - 1u);
        keep(at, load_v(base + key * params.v_token, at.y));
    }
}

@compute @workgroup_size(8, BLOCK_Q / 4u)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let block = block_at(fold(workgroup, grid));
    if (!block.exists) {
        return;
    }
    let b = block.b;
    let h = block.h;
    let column = local.x;
    let row = local.y;

    let last_query = params.q_len - 1u;
    let query = block.first_query + 4u * row;
    let near_query = min(query + vec4(0u, 1u, 2u, 3u), vec4(last_query));
    let q_at = q_base(b, h) + near_query * params.q_token;
    // Component c, and state c, belong to query 4 row + c. The sums are of the invocation's columns.
    var states: array<Running, 4>;
    for (var c = 0u; c < 4u; c++) { // unroll
        states[c] = nothing_seen();
    }
    // Sums of weighted values: query c of the four, vector n of the invocation at 4 n + c.
    var sums: array<vec4<f32>, VECTORS * 4u>;
    // Scores of the invocation's keys against its four queries.
    var scores: array<vec4<f32>, KEYS>;

    let keys = visible_keys(block.first_query, last_of(block));
    for (var first = keys.first; first < keys.end; first += BLOCK_K) {
        load_keys(k_base(b, block.g), first, thread);
        // The keys are in place.
        workgroupBarrier();

        for (var n = 0u; n < KEYS; n++) { // unroll
            scores[n] = vec4(0.0);
        }
        for (var i = 0u; i < DIM4; i++) {
            let x = mat4x4(
                load_q(q_at.x, i),
                load_q(q_at.y, i),
                load_q(q_at.z, i),
                load_q(q_at.w, i),
            );
            for (var n = 0u; n < KEYS; n++) { // unroll
                // A row vector times a matrix is a dot product per column.
                scores[n] += sh_kv[(column + 8u * n) * PITCH + i] * x;
            }
        }
        var top = vec4(NO_SCORE);
        for (var n = 0u; n < KEYS; n++) { // unroll
            let key = first + column + 8u * n;
            let near = min(key, params.kv_len - 1u);
            let real = is_real(b, near);
            for (var c = 0u; c < 4u; c++) { // unroll
                let score = finish_score(scores[n][c] * params.scale, b, h, near_query[c], near);
                scores[n][c] = masked(score, real & sees(query + c, key));
            }
            top = max(top, scores[n]);
        }
        sh_row[column * (BLOCK_Q / 4u) + row] = top;
        // All columns' maxima are in place; nobody reads keys any more.
        workgroupBarrier();

        for (var c = 0u; c < 8u; c++) {
            top = max(top, sh_row[c * (BLOCK_Q / 4u) + row]);
        }
        for (var c = 0u; c < 4u; c++) { // unroll
            states[c] = raised(states[c], top[c]);
        }
        let tops = vec4(states[0].top, states[1].top, states[2].top, states[3].top);
        for (var n = 0u; n < KEYS; n++) { // unroll
            let weights = weights_of(scores[n] - tops);
            for (var c = 0u; c < 4u; c++) { // unroll
                states[c].sum += weights[c];
            }
            sh_p[(column + 8u * n) * (BLOCK_Q / 4u) + row] = weights;
        }
        load_values(v_base(b, block.g), first, thread);
        // Weights and values are in place.
        workgroupBarrier();

        for (var n = 0u; n < VECTORS; n++) { // unroll
            for (var c = 0u; c < 4u; c++) { // unroll
                sums[4u * n + c] *= states[c].rescale;
            }
        }
        for (var j = 0u; j < BLOCK_K; j++) {
            let w = sh_p[j * (BLOCK_Q / 4u) + row];
            for (var n = 0u; n < VECTORS; n++) { // unroll
                // The last vectors of a head may be missing; what is read then is not stored.
                let y = sh_kv[j * PITCH + min(column + 8u * n, DIM4 - 1u)];
                for (var c = 0u; c < 4u; c++) { // unroll
                    sums[4u * n + c] += w[c] * y;
                }
            }
        }
        // Values, weights and maxima have been read: the next tile may replace them.
        workgroupBarrier();
    }

    sh_row[column * (BLOCK_Q / 4u) + row] =
        vec4(states[0].sum, states[1].sum, states[2].sum, states[3].sum);
    // All columns' sums are in place.
    workgroupBarrier();
    var total = vec4(0.0);
    for (var c = 0u; c < 8u; c++) {
        total += sh_row[c * (BLOCK_Q / 4u) + row];
    }
    for (var c = 0u; c < 4u; c++) { // unroll
        if (query + c <= last_query) {
            let e = out_base(b, h) + (query + c) * params.out_token;
            let factor = inverse_of(total[c]);
            for (var n = 0u; n < VECTORS; n++) { // unroll
                if (column + 8u * n < DIM4) {
                    store_out(e, column + 8u * n, sums[4u * n + c] * factor);
                }
            }
        }
    }
}
