// Attention of a few queries, as of a step of generation: bound by reading each key and value once.
//
//   out[b, i, h, :] = sum_j softmax_j(finish_score(scale * q[b, i, h, :] . k[b, j, g, :])) v[b, j, g, :]
//   g = h / (H / G)
//
// A workgroup owns ROWS rows of one key/value head: the queries of all its heads, counted (i, h)
// with the head innermost, so that every key and value is loaded once for all of them. The lanes
// split the keys: lane l takes keys l, l + THREADS, ... and keeps, per row, the largest of its
// scores, its sum of weights and its weighted values (Milakov & Gimelshein 2018). At the end the
// lanes' sums are rescaled to the common maximum and added in a fixed order, as flash-decoding
// adds up the parts of a split key range (Dao et al. 2023).
//
// Private arrays are registers or stack slots only while every index is a constant once calls are
// inlined; hence the steps are unrolled by hand, under constant conditions.
//
// Safety: rows, queries and keys are clamped to the last one before an address is made of them (the
// key loop runs only if kv_len > 0), heads and batches come from a checked group index, and buckets
// are clamped. Lanes write all of sh_part that is read, before the barrier in front of the reads.

#import fold
#import reduce_workgroup
#import attention_common
#import attention_io_vec4
#import attention_kv_vec4
#import attention_steps
#import attention_join_workgroup

// Rows per workgroup, 1, 2, 4 or 8.
const ROWS: u32 = 1u;

// Vectors of the workgroup's rows.
const JOIN_VECTORS: u32 = ROWS * DIM4;

// Vector i of row r, at r DIM4 + i: the scaled query, the sum of weighted values.
var<private> query_rows: array<vec4<f32>, 8u * DIM4>;
var<private> sums: array<vec4<f32>, 8u * DIM4>;
// Per row: the score of the lane's key, then its weight; the largest score so far, the sum of
// weights, what earlier sums are worth against the newest maximum.
var<private> p: array<f32, 8>;
var<private> row_max: array<f32, 8>;
var<private> row_sum: array<f32, 8>;
var<private> rescale: array<f32, 8>;

// One row: a query and a head of the key/value head's group.
struct Row {
    query: u32,
    head: u32,
    exists: bool,
}

fn row_at(index: u32, g: u32) -> Row {
    let group = params.n_heads / params.n_kv_heads;
    let near = min(index, params.q_len * group - 1u);
    return Row(near / group, g * group + near % group, index == near);
}

// The loops over a row's vectors are as long as a driver is sure to unroll.
const UNROLLED: u32 = min(DIM4, 32u);

fn load_row(b: u32, row: Row, r: u32) {
    let e = params.q_start + b * params.q_batch + row.query * params.q_token + row.head * params.q_head;
    for (var i = 0u; i < UNROLLED; i++) {
        query_rows[r * DIM4 + i] = load_q(e, i) * params.scale;
    }
    for (var i = UNROLLED; i < DIM4; i++) {
        query_rows[r * DIM4 + i] = load_q(e, i) * params.scale;
    }
    row_max[r] = NO_SCORE;
}

// Adds the products of vector i of the lane's key to all scores.
fn score_vector(i: u32, x: vec4<f32>) {
    p[0] += dot(query_rows[i], x);
    if (ROWS > 1u) {
        p[1] += dot(query_rows[DIM4 + i], x);
    }
    if (ROWS > 2u) {
        p[2] += dot(query_rows[2u * DIM4 + i], x);
        p[3] += dot(query_rows[3u * DIM4 + i], x);
    }
    if (ROWS > 4u) {
        p[4] += dot(query_rows[4u * DIM4 + i], x);
        p[5] += dot(query_rows[5u * DIM4 + i], x);
        p[6] += dot(query_rows[6u * DIM4 + i], x);
        p[7] += dot(query_rows[7u * DIM4 + i], x);
    }
}

fn add_value(at: u32, r: u32, x: vec4<f32>) {
    sums[at] = sums[at] * rescale[r] + p[r] * x;
}

// Weighs vector i of the lane's value into all rows.
fn value_vector(i: u32, x: vec4<f32>) {
    add_value(i, 0u, x);
    if (ROWS > 1u) {
        add_value(DIM4 + i, 1u, x);
    }
    if (ROWS > 2u) {
        add_value(2u * DIM4 + i, 2u, x);
        add_value(3u * DIM4 + i, 3u, x);
    }
    if (ROWS > 4u) {
        add_value(4u * DIM4 + i, 4u, x);
        add_value(5u * DIM4 + i, 5u, x);
        add_value(6u * DIM4 + i, 6u, x);
        add_value(7u * DIM4 + i, 7u, x);
    }
}

// Turns the score of row r into its weight. `real`: the key exists and is not padding.
fn softmax_row(r: u32, b: u32, row: Row, key: u32, real: bool) {
    let score = finish_score(p[r], b, row.head, row.query, min(key, params.kv_len - 1u));
    let seen = real & sees(row.query, key);
    let top = max(row_max[r], select(NO_SCORE, score, seen));
    // Before the lane's first key the factor is arbitrary: it meets sums of 0.
    rescale[r] = weight_of(row_max[r] - top);
    row_max[r] = top;
    p[r] = select(0.0, weight_of(score - top), seen);
    row_sum[r] = row_sum[r] * rescale[r] + p[r];
}

fn share_step(r: u32, i: u32, lane: u32, factor: f32) {
    share(r * DIM4 + i, lane, sums[r * DIM4 + i] * factor);
}

fn share_steps(r: u32, i: u32, lane: u32, factor: f32) {
    share_step(r, i, lane, factor);
    if (i + 1u < DIM4) {
        share_step(r, i + 1u, lane, factor);
    }
    if (i + 2u < DIM4) {
        share_step(r, i + 2u, lane, factor);
    }
    if (i + 3u < DIM4) {
        share_step(r, i + 3u, lane, factor);
    }
}

// Sixteen vectors from i on.
fn share_steps_16(r: u32, i: u32, lane: u32, factor: f32) {
    share_steps(r, i, lane, factor);
    if (i + 4u < DIM4) {
        share_steps(r, i + 4u, lane, factor);
    }
    if (i + 8u < DIM4) {
        share_steps(r, i + 8u, lane, factor);
    }
    if (i + 12u < DIM4) {
        share_steps(r, i + 12u, lane, factor);
    }
}

// Scales the lane's sums of row r to what they are worth in the result, and shares them. All lanes
// must call this together.
fn share_row(r: u32, lane: u32) {
    let top = reduce_max(row_max[r], lane);
    let mine = weight_of(row_max[r] - top);
    let total = reduce_sum(row_sum[r] * mine, lane);
    let factor = select(0.0, mine / max(total, 1e-38), total > 0.0);
    share_steps_16(r, 0u, lane, factor);
    if (DIM4 > 16u) {
        share_steps_16(r, 16u, lane, factor);
    }
    if (DIM4 > 32u) {
        share_steps_16(r, 32u, lane, factor);
    }
    if (DIM4 > 48u) {
        share_steps_16(r, 48u, lane, factor);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = params.q_len * (params.n_heads / params.n_kv_heads);
    let blocks = (rows + ROWS - 1u) / ROWS;
    let group = fold(workgroup, grid);
    if (group >= blocks * params.n_kv_heads * params.batch) {
        return;
    }
    let first_row = group % blocks * ROWS;
    let g = (group / blocks) % params.n_kv_heads;
    let b = group / (blocks * params.n_kv_heads);
    let row0 = row_at(first_row, g);
    let row1 = row_at(first_row + 1u, g);
    let row2 = row_at(first_row + 2u, g);
    let row3 = row_at(first_row + 3u, g);
    let row4 = row_at(first_row + 4u, g);
    let row5 = row_at(first_row + 5u, g);
    let row6 = row_at(first_row + 6u, g);
    let row7 = row_at(first_row + 7u, g);
    load_row(b, row0, 0u);
    if (ROWS > 1u) {
        load_row(b, row1, 1u);
    }
    if (ROWS > 2u) {
        load_row(b, row2, 2u);
        load_row(b, row3, 3u);
    }
    if (ROWS > 4u) {
        load_row(b, row4, 4u);
        load_row(b, row5, 5u);
        load_row(b, row6, 6u);
        load_row(b, row7, 7u);
    }

    let k_base = params.k_start + b * params.k_batch + g * params.k_head;
    let v_base = params.v_start + b * params.v_batch + g * params.v_head;
    let keys = visible_keys(row0.query, row_at(first_row + ROWS - 1u, g).query);
    for (var first = keys.first; first < keys.end; first += THREADS) {
        let key = first + lane;
        let near = min(key, params.kv_len - 1u);
        var real = key < keys.end;
        if (HAS_KEY_MASK) {
            real &= key_mask[b * params.key_mask_batch + near] != 0u;
        }

        let k_row = k_base + near * params.k_token;
        p = array<f32, 8>();
        score_key(k_row);

        softmax_row(0u, b, row0, key, real);
        if (ROWS > 1u) {
            softmax_row(1u, b, row1, key, real);
        }
        if (ROWS > 2u) {
            softmax_row(2u, b, row2, key, real);
            softmax_row(3u, b, row3, key, real);
        }
        if (ROWS > 4u) {
            softmax_row(4u, b, row4, key, real);
            softmax_row(5u, b, row5, key, real);
            softmax_row(6u, b, row6, key, real);
            softmax_row(7u, b, row7, key, real);
        }

        let v_row = v_base + near * params.v_token;
        weigh_value(v_row);
    }

    share_row(0u, lane);
    if (ROWS > 1u) {
        share_row(1u, lane);
    }
    if (ROWS > 2u) {
        share_row(2u, lane);
        share_row(3u, lane);
    }
    if (ROWS > 4u) {
        share_row(4u, lane);
        share_row(5u, lane);
        share_row(6u, lane);
        share_row(7u, lane);
    }
    all_shared();
    let turns = join_turns(lane);
    for (var n = turns.x; n < JOIN_VECTORS; n += turns.y) {
        let total = joined(n, lane);
        let row = row_at(first_row + n / DIM4, g);
        if (row.exists && stores_joined(lane)) {
            let e = params.out_start + b * params.out_batch + row.query * params.out_token;
            store_out(e + row.head * params.out_head, n % DIM4, total);
        }
    }
}
