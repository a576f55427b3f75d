// Keys and values in f32, 4 elements at a time: head_dim, strides and starts are multiples of 4.
// A head starts at element e of its buffer. Loads give its vectors i and i + 1, i even; a vector
// beyond the last is 0.

// [B, S, G, head_dim] in the order that the strides give.
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
// [B, S, G, head_dim] in the order that the strides give.
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;

fn load_k(e: u32, i: u32) -> mat2x4<f32> {
    let at = e / 4u + i;
    if (i + 1u < DIM4) {
        return mat2x4(k[at], k[at + 1u]);
    }
    return mat2x4(k[at], vec4(0.0));
}

fn load_v(e: u32, i: u32) -> mat2x4<f32> {
    let at = e / 4u + i;
    if (i + 1u < DIM4) {
        return mat2x4(v[at], v[at + 1u]);
    }
    return mat2x4(v[at], vec4(0.0));
}
