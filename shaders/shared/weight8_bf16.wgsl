// bf16 weights (the upper half of an f32) packed two to a word, low half first, read in 16
// bytes. Same function as weight8_f32.
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>; // elements 8i .. 8i + 8: weight[i]

fn widen(words: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>((words.xxyy << vec4(16u, 0u, 16u, 0u)) & vec4(0xffff0000u));
}

fn load_weight8(offset: u32) -> mat2x4<f32> {
    let words = weight[offset / 8u];
    return mat2x4(widen(words.xy), widen(words.zw));
}
