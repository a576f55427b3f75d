// Attention of a few queries to a run of keys: what decoding kernels do, whatever becomes of the sums.
//
// A workgroup owns ROWS rows of one key/value head: the queries of all its heads, counted (i, h)
// with the head innermost, so that every key and value is loaded once for all of them. TEAM lanes
// share a key, a pair of vectors each per turn; the SLOTS teams take the keys by turns, and each
// keeps, per row, its own online softmax. At the end the teams' sums are rescaled to the common
// maximum and added in a fixed order, as flash-decoding adds up the parts of a split key range
// (Dao et al. 2023).
//
// Calls, in this order: block_at, load_rows, attend, join_rows, all_shared, then joined.

#import attention_common
#import attention_mask
#import attention_score
#import attention_q_vec4
#import attention_kv_vec4
#import online_softmax
#import attention_team_one
#import attention_join_workgroup

// Rows per workgroup.
const ROWS: u32 = 1u;
// Lanes per workgroup: a multiple of TEAM.
const THREADS: u32 = 64u;

// Teams.
const SLOTS: u32 = THREADS / TEAM;
// Turns of two vectors in which a team covers a head.
const TURNS: u32 = ((DIM4 + 1u) / 2u + TEAM - 1u) / TEAM;
// Vectors that a lane holds of each row: an odd last one has no second.
const MINE: u32 = min(2u * TURNS, DIM4);
// Vectors that a team holds of each row: DIM4, and those that some lanes have in vain.
const SPAN: u32 = TEAM * MINE;
// The same of all rows.
const JOIN_VECTORS: u32 = ROWS * SPAN;

// What a workgroup works on: rows from first_row on of key/value head g of batch b.
struct Block {
    // Whether there is such a block: the last row of a folded grid may be partly empty.
    exists: bool,
    b: u32,
    g: u32,
    first_row: u32,
}

// A query and a head of the key/value head's group.
struct Row {
    query: u32,
    head: u32,
    exists: bool,
}

var<private> rows: array<Row, ROWS>;
// Per row: of the lane's team, and after join_rows of the workgroup.
var<private> states: array<Running, ROWS>;
// Per row: the score of the team's key, then its weight.
var<private> p: array<f32, ROWS>;
// Vector n of the lane of row r, at r MINE + n: the scaled query, the sum of weighted values.
var<private> queries: array<vec4<f32>, ROWS * MINE>;
var<private> sums: array<vec4<f32>, ROWS * MINE>;

fn block_at(group: u32) -> Block {
    let blocks = (params.q_len * (params.n_heads / params.n_kv_heads) + ROWS - 1u) / ROWS;
    let g = (group / blocks) % params.n_kv_heads;
    let b = group / (blocks * params.n_kv_heads);
    return Block(b < params.batch, b, g, group % blocks * ROWS);
}

fn row_at(block: Block, r: u32) -> Row {
    let group = params.n_heads / params.n_kv_heads;
    let index = block.first_row + r;
    let near = min(index, params.q_len * group - 1u);
    return Row(near / group, block.g * group + near % group, index == near);
}

// Which vector of a head the lane's vector n is: DIM4 or more where it has none.
fn vector_at(lane: u32, n: u32) -> u32 {
    return 2u * (member_of(lane) + TEAM * (n / 2u)) + n % 2u;
}

fn load_rows(block: Block, lane: u32) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        let row = row_at(block, r);
        let e = q_base(block.b, row.head) + row.query * params.q_token;
        // Not marked: expanded, the loads of wide heads take SwiftShader a second to compile, and
        // compilers that keep arrays in registers unroll a loop of so few rounds by themselves.
        for (var n = 0u; n < MINE; n++) {
            let i = vector_at(lane, n);
            var x = vec4(0.0);
            if (i < DIM4) {
                x = load_q(e, i) * params.scale;
            }
            queries[r * MINE + n] = x;
            sums[r * MINE + n] = vec4(0.0);
        }
        rows[r] = row;
        states[r] = nothing_seen();
    }
}

// The products of all rows with the team's key, which starts at element e.
fn score_key(lane: u32, e: u32) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        p[r] = 0.0;
    }
    for (var n = 0u; n < TURNS; n++) { // unroll
        let x = owned(load_k(e, first_vector(lane, n)), lane, n);
        for (var j = 0u; j < min(2u, MINE - 2u * n); j++) { // unroll
            for (var r = 0u; r < ROWS; r++) { // unroll
                p[r] += dot(queries[r * MINE + 2u * n + j], x[j]);
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) { // unroll
        p[r] = team_sum(p[r]);
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

// Weighs the team's value, which starts at element e, into all rows.
fn weigh_value(lane: u32, e: u32) {
    for (var n = 0u; n < TURNS; n++) { // unroll
        let x = load_v(e, first_vector(lane, n));
        for (var j = 0u; j < min(2u, MINE - 2u * n); j++) { // unroll
            for (var r = 0u; r < ROWS; r++) { // unroll
                let at = r * MINE + 2u * n + j;
                sums[at] = sums[at] * states[r].rescale + p[r] * x[j];
            }
        }
    }
}

// Attends to these keys. Every lane walks the same rounds; a key beyond the end weighs nothing.
fn attend(block: Block, lane: u32, keys: Keys) {
    for (var first = keys.first; first < keys.end; first += SLOTS) {
        let key = first + lane / TEAM;
        let near = min(key, params.kv_len - 1u);
        score_key(lane, k_base(block.b, block.g) + near * params.k_token);
        softmax_key(block.b, key, (key < keys.end) & is_real(block.b, near));
        weigh_value(lane, v_base(block.b, block.g) + near * params.v_token);
    }
}

// Scales the lane's sums to what they are worth in the weighted mean of all keys, and shares them.
// All lanes must call this together.
fn join_rows(lane: u32) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        tell_row(r, lane, states[r]);
    }
    all_told();
    for (var r = 0u; r < ROWS; r++) { // unroll
        states[r] = settled(r, states[r]);
        for (var n = 0u; n < MINE; n++) { // unroll
            share(r * SPAN + vector_at(lane, n), lane, sums[r * MINE + n] * states[r].rescale);
        }
    }
}
