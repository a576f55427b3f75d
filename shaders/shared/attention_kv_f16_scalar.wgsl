// Keys and values in f16, two to a word, element by element: any head_dim, stride and start. Elements
// beyond HEAD_DIM read as 0. Same functions as attention_kv_vec4.

// [B, S, G, head_dim] in the order that the strides give.
@group(0) @binding(1) var<storage, read> k: array<u32>;
// [B, S, G, head_dim] in the order that the strides give.
@group(0) @binding(2) var<storage, read> v: array<u32>;

// Element e of the word that holds it.
fn half_of(word: u32, e: u32) -> f32 {
    return unpack2x16float(word)[e % 2u];
}

fn load_k(e: u32, i: u32) -> mat2x4<f32> {
    var x = mat2x4(vec4(0.0), vec4(0.0));
    for (var d = 0u; d < 8u; d++) { // unroll
        if (4u * i + d < HEAD_DIM) {
            let at = e + 4u * i + d;
            x[d / 4u][d % 4u] = half_of(k[at / 2u], at);
        }
    }
    return x;
}

fn load_v(e: u32, i: u32) -> mat2x4<f32> {
    var x = mat2x4(vec4(0.0), vec4(0.0));
    for (var d = 0u; d < 8u; d++) { // unroll
        if (4u * i + d < HEAD_DIM) {
            let at = e + 4u * i + d;
            x[d / 4u][d % 4u] = half_of(v[at / 2u], at);
        }
    }
    return x;
}
