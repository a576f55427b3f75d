// Attention of a few queries, as of a step of generation: bound by reading each key and value once.
//
//   out[b, i, h, :] = sum_j softmax_j(finish_score(scale * q[b, i, h, :] . k[b, j, g, :])) v[b, j, g, :]
//   g = h / (H / G)
//
// A workgroup owns ROWS rows of one key/value head (see attention_step) and all keys they see.
//
// Safety: rows, queries and keys are clamped to the last one before an address is made of them (the
// key loop runs only if kv_len > 0), heads and batches come from a checked group index, vectors of a
// head are below DIM4, and buckets are clamped. Lanes write all of the workgroup memory that is read,
// before the barrier in front of the reads.

#import fold
#import attention_step
#import attention_out_vec4

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
    attend(block, lane, visible_keys(rows[0].query, rows[ROWS - 1u].query));
    join_rows(lane);
    all_shared();
    let turns = join_turns(lane);
    for (var n = turns.x; n < JOIN_VECTORS; n += turns.y) {
        let total = joined(n, lane);
        let row = row_at(block, n / SPAN);
        let i = n % SPAN;
        if (row.exists && i < DIM4 && stores_joined(lane)) {
            store_out(out_base(block.b, row.head) + row.query * params.out_token, i, total);
        }
    }
}
