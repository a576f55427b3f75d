// Attention of a few queries, as of a step of generation: bound by reading each key and value once.
//
//   out[b, i, h, :] = sum_j softmax_j(finish_score(scale * q[b, i, h, :] . k[b, j, g, :])) v[b, j, g, :]
//   g = h / (H / G)
//
// A workgroup owns ROWS rows of one key/value head: the queries of all its heads, counted (i, h)
// with the head innermost, so that every key and value is loaded once for all of them. The lanes
// split the keys: lane l takes keys l, l + THREADS, ... and keeps, per row, its own online softmax.
// At the end the lanes' sums are rescaled to the common maximum and added in a fixed order, as
// flash-decoding adds up the parts of a split key range (Dao et al. 2023).
//
// Safety: rows, queries and keys are clamped to the last one before an address is made of them (the
// key loop runs only if kv_len > 0), heads and batches come from a checked group index, and buckets
// are clamped. Lanes write all of sh_join that is read, before the barrier in front of the reads.

#import fold
#import reduce_workgroup
#import attention_common
#import attention_mask
#import attention_score
#import attention_io_vec4
#import attention_kv_vec4
#import online_softmax
#import attention_join_workgroup

// Rows per workgroup.
const ROWS: u32 = 1u;

// Vectors of the workgroup's rows.
const JOIN_VECTORS: u32 = ROWS * DIM4;

// A query and a head of the key/value head's group.
struct Row {
    query: u32,
    head: u32,
    exists: bool,
}

var<private> rows: array<Row, ROWS>;
var<private> states: array<Running, ROWS>;
// Per row: the score of the lane's key, then its weight.
var<private> p: array<f32, ROWS>;
// Vector i of row r, at r DIM4 + i: the scaled query, the sum of weighted values.
var<private> queries: array<vec4<f32>, ROWS * DIM4>;
var<private> sums: array<vec4<f32>, ROWS * DIM4>;

fn row_at(index: u32, g: u32) -> Row {
    let group = params.n_heads / params.n_kv_heads;
    let near = min(index, params.q_len * group - 1u);
    return Row(near / group, g * group + near % group, index == near);
}

fn load_rows(first: u32, b: u32, g: u32) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        let row = row_at(first + r, g);
        let e = q_base(b, row.head) + row.query * params.q_token;
        for (var i = 0u; i < DIM4; i++) { // unroll
            queries[r * DIM4 + i] = load_q(e, i) * params.scale;
        }
        rows[r] = row;
        states[r] = nothing_seen();
    }
}

// The products of all rows with the lane's key, which starts at element e.
fn score_key(e: u32) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        p[r] = 0.0;
    }
    for (var i = 0u; i < DIM4; i += 2u) { // unroll
        let x = load_k(e, i);
        for (var j = 0u; j < min(2u, DIM4 - i); j++) { // unroll
            for (var r = 0u; r < ROWS; r++) { // unroll
                p[r] += dot(queries[r * DIM4 + i + j], x[j]);
            }
        }
    }
}

// Turns the scores into weights. `real`: the key exists and is not padding.
fn softmax_key(b: u32, key: u32, real: bool) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        let row = rows[r];
        let score = finish_score(p[r], b, row.head, row.query, min(key, params.kv_len - 1u));
        let known = masked(score, real & sees(row.query, key));
        var state = raised(states[r], known);
        p[r] = weight_of(known - state.top);
        state.sum += p[r];
        states[r] = state;
    }
}

// Weighs the lane's value, which starts at element e, into all rows.
fn weigh_value(e: u32) {
    for (var i = 0u; i < DIM4; i += 2u) { // unroll
        let x = load_v(e, i);
        for (var j = 0u; j < min(2u, DIM4 - i); j++) { // unroll
            for (var r = 0u; r < ROWS; r++) { // unroll
                let at = r * DIM4 + i + j;
                sums[at] = sums[at] * states[r].rescale + p[r] * x[j];
            }
        }
    }
}

// Scales the lane's sums to what they are worth in the result, and shares them. All lanes must call
// this together.
fn share_rows(lane: u32) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        let mine = weight_of(states[r].top - reduce_max(states[r].top, lane));
        let factor = mine * inverse_of(reduce_sum(states[r].sum * mine, lane));
        for (var i = 0u; i < DIM4; i++) { // unroll
            share(r * DIM4 + i, lane, sums[r * DIM4 + i] * factor);
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let blocks = (params.q_len * (params.n_heads / params.n_kv_heads) + ROWS - 1u) / ROWS;
    let group = fold(workgroup, grid);
    if (group >= blocks * params.n_kv_heads * params.batch) {
        return;
    }
    let first_row = group % blocks * ROWS;
    let g = (group / blocks) % params.n_kv_heads;
    let b = group / (blocks * params.n_kv_heads);
    load_rows(first_row, b, g);

    let keys = visible_keys(rows[0].query, rows[ROWS - 1u].query);
    for (var first = keys.first; first < keys.end; first += THREADS) {
        let key = first + lane;
        let near = min(key, params.kv_len - 1u);
        score_key(k_base(b, g) + near * params.k_token);
        softmax_key(b, key, (key < keys.end) & is_real(b, near));
        weigh_value(v_base(b, g) + near * params.v_token);
    }

    share_rows(lane);
    all_shared();
    let turns = join_turns(lane);
    for (var n = turns.x; n < JOIN_VECTORS; n += turns.y) {
        let total = joined(n, lane);
        let row = row_at(first_row + n / DIM4, g);
        if (row.exists && stores_joined(lane)) {
            store_out(out_base(b, row.head) + row.query * params.out_token, n % DIM4, total);
        }
    }
}
