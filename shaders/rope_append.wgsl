// Rotary positions and the cache in one pass over packed projections: queries are rotated into q, keys
// rotated into k_cache and values copied into v_cache, at positions offset + t. See rope and
// cache_append, which it stands for.
//
// x: [batch, tokens, row], with N_HEADS queries of HEAD_DIM columns from q_column on, N_KV_HEADS keys
// from k_column on and as many values from v_column on. q: [batch, tokens, N_HEADS * HEAD_DIM]. One
// invocation moves one unit of four columns.
//
// Safety: a unit is checked against batch * tokens * HEADS * UNITS, which bounds head and token, and its
// position against context before a cache is written; the host checked columns against row, and that
// dims are multiples of four. Angles are clamped to the tables' rows; positions has an entry per token.
#import fold
#import rope_unit

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i >= params.count) {
        return;
    }
    let h = head_at(i / UNITS);
    var unit = load_unit(h, i % UNITS);
    if (h.head < N_HEADS + N_KV_HEADS) {
        unit.values = turn(h, i % UNITS, unit.values);
    }
    store_unit(h, unit);
}
