// f16 weights packed two to a word, low half first, read in 16 bytes. Same function as
// weight8_f32.
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>; // elements 8i .. 8i + 8: weight[i]

fn load_weight8(offset: u32) -> mat2x4<f32> {
    let words = weight[offset / 8u];
    return mat2x4(
        vec4(unpack2x16float(words.x), unpack2x16float(words.y)),
        vec4(unpack2x16float(words.z), unpack2x16float(words.w)),
    );
}
