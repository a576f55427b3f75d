// Keys and values in f16, two to a word, element by element: any head_dim, stride and start. Elements
// beyond HEAD_DIM read as 0. Same functions as attention_kv_vec4.

// [B, S, G, head_dim] in the order that the strides give.
@group(0) @binding(1) var<storage, read> k: array<u32>;

// [B, S, G, head_dim] in the order that the strides give.
@group(0) @binding(2) var<storage, read> v: array<u32>;

fn k_at(e: u32, d: u32) -> f32 {
    if (d < HEAD_DIM) {
        return unpack2x16float(k[(e + d) / 2u])[(e + d) % 2u];
    }
    return 0.0;
}

fn load_k(e: u32, i: u32) -> mat2x4<f32> {
    let d = 4u * i;
    return mat2x4(
        vec4(k_at(e, d), k_at(e, d + 1u), k_at(e, d + 2u), k_at(e, d + 3u)),
        vec4(k_at(e, d + 4u), k_at(e, d + 5u), k_at(e, d + 6u), k_at(e, d + 7u)),
    );
}

fn v_at(e: u32, d: u32) -> f32 {
    if (d < HEAD_DIM) {
        return unpack2x16float(v[(e + d) / 2u])[(e + d) % 2u];
    }
    return 0.0;
}

fn load_v(e: u32, i: u32) -> mat2x4<f32> {
    let d = 4u * i;
    return mat2x4(
        vec4(v_at(e, d), v_at(e, d + 1u), v_at(e, d + 2u), v_at(e, d + 3u)),
        vec4(v_at(e, d + 4u), v_at(e, d + 5u), v_at(e, d + 6u), v_at(e, d + 7u)),
    );
}
