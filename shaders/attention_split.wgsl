// Attention of a few queries to many keys, first of two stages: every key of a head would be one
// workgroup's work otherwise, and a step of generation has few heads.
//
//   scratch[b, g, row, z, :] = (sum_j w_j v[b, j, g, :] / sum_j w_j | top, sum_j w_j), w_j = exp(s_j - top)
//
// with j over share z of the keys that the rows see, s_j = finish_score(scale * q . k[b, j, g, :]) and
// top the largest of them; a share without a key gives (0 | NO_SCORE, 0). attention_combine adds the
// shares up.
//
// A workgroup owns ROWS rows of one key/value head (see attention_step) and a share of the keys; the
// shares lie along z of the grid.
//
// Safety: rows, queries and keys are clamped to the last one before an address is made of them (the
// key loop runs only if kv_len > 0), heads and batches come from a checked group index, vectors of a
// head are below DIM4, and buckets are clamped. Rows that exist, times the shares of the grid, are
// what scratch has room for. Lanes write all of the workgroup memory that is read, before the barrier
// in front of the reads.

#import fold
#import attention_step
#import attention_part

@group(0) @binding(7) var<storage, read_write> scratch: array<vec4<f32>>;

// Share z of the keys: equal numbers of whole rounds of the teams, the last ones fewer or none.
fn share_of(keys: Keys, z: u32, shares: u32) -> Keys {
    let rounds = (keys.end - min(keys.first, keys.end) + SLOTS - 1u) / SLOTS;
    let most = (rounds + shares - 1u) / shares * SLOTS;
    let first = min(keys.first + z * most, keys.end);
    return Keys(first, min(first + most, keys.end));
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = block_at(fold(workgroup, grid));
    if (!block.exists) {
        return;
    }
    load_rows(block, lane);
    let keys = visible_keys(rows[0].query, rows[ROWS - 1u].query);
    attend(block, lane, share_of(keys, workgroup.z, grid.z));
    join_rows(lane);
    all_shared();
    // The rows of a key/value head lie one behind the other, however many a workgroup owns.
    let group_rows = params.q_len * (params.n_heads / params.n_kv_heads);
    let base = (block.b * params.n_kv_heads + block.g) * group_rows + block.first_row;
    for (var r = 0u; r < ROWS; r++) { // unroll
        if (rows[r].exists && lane == 0u) {
            let known = vec4(states[r].top, states[r].sum, 0.0, 0.0);
            scratch[part_at(base + r, workgroup.z, grid.z) + DIM4] = known;
        }
    }
    let turns = join_turns(lane);
    for (var n = turns.x; n < JOIN_VECTORS; n += turns.y) {
        let total = joined(n, lane);
        let r = n / SPAN;
        let i = n % SPAN;
        if (row_at(block, r).exists && i < DIM4 && stores_joined(lane)) {
            scratch[part_at(base + r, workgroup.z, grid.z) + i] = total;
        }
    }
}
