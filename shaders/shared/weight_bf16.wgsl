// bf16 weights (the upper half of an f32) packed two to a word, low half first. Same functions
// as weight_f32.
#import quad_vec4

@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>; // elements 4i .. 4i + 4: weight[i]

fn load_weight4(offset: u32) -> vec4<f32> {
    let words = weight[offset / 4u].xxyy;
    return bitcast<vec4<f32>>((words << vec4(16u, 0u, 16u, 0u)) & vec4(0xffff0000u));
}
