// As rope_append, with queries and keys normalised in front of their rotation, each head by itself:
// h / sqrt(mean(h^2) + eps) * norm (or 1 + norm, if UNIT_OFFSET).
//
// norm: [2, HEAD_DIM], of queries and of keys. A workgroup takes a head of a token; lane l moves its
// units l, l + THREADS, ...
//
// Safety: a workgroup is checked against batch * tokens * HEADS and a unit against UNITS; the rest as in
// rope_append. reduce_workgroup writes its memory before it reads it.
#import fold
#import rope_unit
#import reduce_workgroup

const UNIT_OFFSET: bool = false;

@group(0) @binding(7) var<storage, read> norm: array<f32>; // [2, HEAD_DIM]

fn scale_at(column: u32) -> vec2<f32> {
    let scale = vec2(norm[column], norm[column + 1u]);
    if (UNIT_OFFSET) {
        return 1.0 + scale;
    }
    return scale;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid);
    if (i >= params.count) {
        return;
    }
    let h = head_at(i);
    if (h.head >= N_HEADS + N_KV_HEADS) {
        for (var u = lane; u < UNITS; u += THREADS) {
            store_unit(h, load_unit(h, u));
        }
        return;
    }
    var squares = 0.0;
    for (var u = lane; u < UNITS; u += THREADS) {
        let v = load_unit(h, u).values;
        squares += dot(v, v);
    }
    let mean = reduce_sum(squares, lane) / f32(HEAD_DIM);
    let scale = inverseSqrt(mean + params.eps);
    let of_norm = select(0u, HEAD_DIM, h.head >= N_HEADS);
    for (var u = lane; u < UNITS; u += THREADS) {
        var unit = load_unit(h, u);
        let weight = vec4(scale_at(of_norm + unit.low), scale_at(of_norm + unit.high));
        unit.values = turn(h, u, unit.values * scale * weight);
        store_unit(h, unit);
    }
}
