// Attention, tiled through workgroup memory.
//
//   out[b, i, h, :] = sum_j softmax_j(finish_score(scale * q[b, i, h, :] . k[b, j, g, :])) v[b, j, g, :]
//   g = h / (H / G)
//
// with the softmax computed online (Milakov & Gimelshein 2018; Dao et al. 2022). A workgroup owns
// BLOCK_Q queries of one head and walks over the keys that any of them sees, BLOCK_K at a time. Of its
// 8 x (BLOCK_Q / 4) invocations, (column, row) owns queries 4 row .. 4 row + 4; of each score tile the
// keys column, column + 8, ...; of the output the vectors column, column + 8, ... of the head.
//
// Safety: queries and keys are clamped to q_len - 1 and kv_len - 1 before an address is made of them
// (the key loop runs only if kv_len > 0), heads and batches come from a checked group index, and
// buckets are clamped. Every element of workgroup memory is written before the barrier that its
// readers wait at: tiles are filled whole, padding included.

#import fold
#import attention_common
#import attention_io_vec4
#import attention_kv_vec4

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
    let column = local.x;
    let row = local.y;

    let last_query = params.q_len - 1u;
    let block_start = block * BLOCK_Q;
    let query = block_start + 4u * row;
    let q_base = params.q_start + b * params.q_batch + h * params.q_head;
    let q0 = q_base + min(query, last_query) * params.q_token;
    let q1 = q_base + min(query + 1u, last_query) * params.q_token;
    let q2 = q_base + min(query + 2u, last_query) * params.q_token;
    let q3 = q_base + min(query + 3u, last_query) * params.q_token;
    let k_base = params.k_start + b * params.k_batch + g * params.k_head;
    let v_base = params.v_start + b * params.v_batch + g * params.v_head;

    // Sums of weighted values: query c of the four, vector n of the invocation at 4 n + c.
    var sums: array<vec4<f32>, VECTORS * 4u>;
    for (var n = 0u; n < VECTORS * 4u; n++) {
        sums[n] = vec4<f32>();
    }
    // Component c belongs to query 4 row + c. The sum is of the invocation's own columns.
    var row_max = vec4<f32>(NO_SCORE);
    var row_sum = vec4<f32>();

    let keys = visible_keys(block_start, min(block_start + BLOCK_Q, params.q_len) - 1u);
    for (var first = keys.first; first < keys.end; first += BLOCK_K) {
        load_keys(k_base, first, thread);
        // The keys are in place.
        workgroupBarrier();

        // Scores of the invocation's keys against its four queries.
        var scores: array<vec4<f32>, KEYS>;
        for (var n = 0u; n < KEYS; n++) {
            scores[n] = vec4<f32>();
        }
        for (var i = 0u; i < DIM4; i++) {
            let x0 = load_q(q0, i);
            let x1 = load_q(q1, i);
            let x2 = load_q(q2, i);
            let x3 = load_q(q3, i);
            for (var n = 0u; n < KEYS; n++) {
                let y = sh_kv[(column + 8u * n) * PITCH + i];
                scores[n] += vec4<f32>(dot(x0, y), dot(x1, y), dot(x2, y), dot(x3, y));
            }
        }
        var seen: array<vec4<bool>, KEYS>;
        var top = vec4<f32>(NO_SCORE);
        for (var n = 0u; n < KEYS; n++) {
            let key = first + column + 8u * n;
            let near = min(key, params.kv_len - 1u);
            let s = scores[n] * params.scale;
            scores[n] = vec4<f32>(
                finish_score(s.x, b, h, min(query, last_query), near),
                finish_score(s.y, b, h, min(query + 1u, last_query), near),
                finish_score(s.z, b, h, min(query + 2u, last_query), near),
                finish_score(s.w, b, h, min(query + 3u, last_query), near),
            );
            var real = true;
            if (HAS_KEY_MASK) {
                real = key_mask[b * params.key_mask_batch + near] != 0u;
            }
            seen[n] = vec4<bool>(
                real && sees(query, key),
                real && sees(query + 1u, key),
                real && sees(query + 2u, key),
                real && sees(query + 3u, key),
            );
            top = max(top, select(vec4<f32>(NO_SCORE), scores[n], seen[n]));
        }
        sh_row[column * (BLOCK_Q / 4u) + row] = top;
        // All columns' maxima are in place; nobody reads keys any more.
        workgroupBarrier();

        for (var c = 0u; c < 8u; c++) {
            top = max(top, sh_row[c * (BLOCK_Q / 4u) + row]);
        }
        top = max(top, row_max);
        // Before a row's first key the factor is arbitrary: it meets sums of 0.
        let rescale = exp(max(row_max - top, vec4<f32>(-87.0)));
        row_max = top;
        row_sum *= rescale;
        for (var n = 0u; n < KEYS; n++) {
            let w = exp(max(scores[n] - top, vec4<f32>(-87.0)));
            let weights = select(vec4<f32>(), w, seen[n]);
            row_sum += weights;
            sh_p[(column + 8u * n) * (BLOCK_Q / 4u) + row] = weights;
        }
        load_values(v_base, first, thread);
        // Weights and values are in place.
        workgroupBarrier();

        for (var n = 0u; n < VECTORS; n++) {
            sums[4u * n] *= rescale.x;
            sums[4u * n + 1u] *= rescale.y;
            sums[4u * n + 2u] *= rescale.z;
            sums[4u * n + 3u] *= rescale.w;
        }
        for (var j = 0u; j < BLOCK_K; j++) {
            let w = sh_p[j * (BLOCK_Q / 4u) + row];
            for (var n = 0u; n < VECTORS; n++) {
                // The last vectors of a head may be missing; what is read then is not stored.
                let y = sh_kv[j * PITCH + min(column + 8u * n, DIM4 - 1u)];
                sums[4u * n] += w.x * y;
                sums[4u * n + 1u] += w.y * y;
                sums[4u * n + 2u] += w.z * y;
                sums[4u * n + 3u] += w.w * y;
            }
        }
        // Values, weights and maxima have been read: the next tile may replace them.
        workgroupBarrier();
    }

    sh_row[column * (BLOCK_Q / 4u) + row] = row_sum;
    // All columns' sums are in place.
    workgroupBarrier();
    var total = vec4<f32>();
    for (var c = 0u; c < 8u; c++) {
        total += sh_row[c * (BLOCK_Q / 4u) + row];
    }
    let factor = select(vec4<f32>(), 1.0 / max(total, vec4<f32>(1e-38)), total > vec4<f32>());
    let out_base = params.out_start + b * params.out_batch + h * params.out_head;
    for (var c = 0u; c < 4u; c++) {
        if (query + c <= last_query) {
            let e = out_base + (query + c) * params.out_token;
            for (var n = 0u; n < VECTORS; n++) {
                if (column + 8u * n < DIM4) {
                    store_out(e, column + 8u * n, sums[4u * n + c] * factor[c]);
                }
            }
        }
    }
}
