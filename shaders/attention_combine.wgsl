// Attention of a few queries to many keys, second of two stages: adds up the shares of the keys.
//
//   out[b, i, h, :] = sum_z w_z mean_z / sum_z w_z,  w_z = sum_z * exp(top_z - max_z top_z)
//
// with (mean_z | top_z, sum_z) as attention_split left them in scratch; a row without a key gives 0.
//
// An invocation owns one vector of one row and reads its parts one after the other: they are few, and
// loads of neighbouring invocations lie side by side.
//
// Safety: rows and vectors come from a checked index; attention_split has written all parts of all
// rows; heads, queries and batches are made of a row's index by division.

#import fold
#import online_softmax
#import attention_part
#import attention_out_vec4

const THREADS: u32 = 64u;

struct Params {
    batch: u32,
    n_heads: u32,
    n_kv_heads: u32,
    q_len: u32,
    // Parts of a row.
    shares: u32,
    // First element, then elements between two batches, tokens and heads.
    out_start: u32,
    out_batch: u32,
    out_token: u32,
    out_head: u32,
}

var<immediate> params: Params;

@group(0) @binding(7) var<storage, read> scratch: array<vec4<f32>>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = fold(workgroup, grid) * THREADS + lane;
    let row = item / DIM4;
    let i = item % DIM4;
    if (row >= params.batch * params.n_heads * params.q_len) {
        return;
    }
    var top = NO_SCORE;
    for (var z = 0u; z < params.shares; z++) {
        top = max(top, scratch[part_at(row, z, params.shares) + DIM4].x);
    }
    var sum = 0.0;
    var total = vec4(0.0);
    for (var z = 0u; z < params.shares; z++) {
        let part = part_at(row, z, params.shares);
        let known = scratch[part + DIM4];
        let weight = known.y * weight_of(known.x - top);
        sum += weight;
        total += weight * scratch[part + i];
    }
    // Rows are counted [B, G, T, H / G].
    let group = params.n_heads / params.n_kv_heads;
    let index = row % (params.q_len * group);
    let head_group = row / (params.q_len * group);
    let head = head_group % params.n_kv_heads * group + index % group;
    let b = head_group / params.n_kv_heads;
    let e = params.out_start + b * params.out_batch + head * params.out_head;
    store_out(e + index / group * params.out_token, i, total * inverse_of(sum));
}
