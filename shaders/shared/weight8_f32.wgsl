// f32 weights, read eight at a time: every offset given is a multiple of 8.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>; // element e: weight[e / 4][e % 4]

fn load_weight8(offset: u32) -> mat2x4<f32> {
    return mat2x4(weight[offset / 4u], weight[offset / 4u + 1u]);
}
