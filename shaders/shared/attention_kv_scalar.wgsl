// Keys and values in f32, element by element: any head_dim, stride and start. Elements beyond
// HEAD_DIM read as 0. Same functions as attention_kv_vec4.

// [B, S, G, head_dim] in the order that the strides give.
@group(0) @binding(1) var<storage, read> k: array<f32>;
// [B, S, G, head_dim] in the order that the strides give.
@group(0) @binding(2) var<storage, read> v: array<f32>;

fn load_k(e: u32, i: u32) -> mat2x4<f32> {
    var x = mat2x4(vec4(0.0), vec4(0.0));
    for (var d = 0u; d < 8u; d++) { // unroll
        if (4u * i + d < HEAD_DIM) {
            x[d / 4u][d % 4u] = k[e + 4u * i + d];
        }
    }
    return x;
}

fn load_v(e: u32, i: u32) -> mat2x4<f32> {
    var x = mat2x4(vec4(0.0), vec4(0.0));
    for (var d = 0u; d < 8u; d++) { // unroll
        if (4u * i + d < HEAD_DIM) {
            x[d / 4u][d % 4u] = v[e + 4u * i + d];
        }
    }
    return x;
}
