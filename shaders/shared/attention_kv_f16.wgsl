// Keys and values in f16, two to a word, 8 elements at a time: head_dim, strides and starts are
// multiples of 8. Same functions as attention_kv_vec4.

// [B, S, G, head_dim] in the order that the strides give.
@group(0) @binding(1) var<storage, read> k: array<vec4<u32>>;
// [B, S, G, head_dim] in the order that the strides give.
@group(0) @binding(2) var<storage, read> v: array<vec4<u32>>;

fn widen(words: vec4<u32>) -> mat2x4<f32> {
    return mat2x4(
        vec4(unpack2x16float(words.x), unpack2x16float(words.y)),
        vec4(unpack2x16float(words.z), unpack2x16float(words.w)),
    );
}

fn load_k(e: u32, i: u32) -> mat2x4<f32> {
    return widen(k[(e + 4u * i) / 8u]);
}

fn load_v(e: u32, i: u32) -> mat2x4<f32> {
    return widen(v[(e + 4u * i) / 8u]);
}
