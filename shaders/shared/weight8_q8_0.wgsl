// q8_0 weights, read eight at a time: i8 quants four to a word, low byte first, and one f16 scale
// per 32 of them, two to a word. Blocks lie along k. Same function as weight8_f32.
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;  // quants 8i .. 8i + 8: weight[i]
@group(0) @binding(5) var<storage, read> weight_scale: array<u32>; // block b: half b % 2 of [b / 2]

fn load_weight8(offset: u32) -> mat2x4<f32> {
    let words = weight[offset / 8u];
    let block = offset / 32u;
    let scale = unpack2x16float(weight_scale[block / 2u] >> (16u * (block % 2u))).x;
    return mat2x4(
        scale * vec4<f32>(unpack4xI8(words.x)),
        scale * vec4<f32>(unpack4xI8(words.y)),
    );
}
