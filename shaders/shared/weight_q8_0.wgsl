// q8_0 weights, read four at a time: i8 quants four to a word, low byte first, and one f16 scale
// per 32 of them, two to a word. Blocks lie along k. Same functions as weight_f32.
#import quad_vec4

@group(0) @binding(1) var<storage, read> weight: array<u32>;        // quants 4i .. 4i + 4: weight[i]
@group(0) @binding(5) var<storage, read> weight_scale: array<u32>; // block b: half b % 2 of [b / 2]

fn load_weight4(offset: u32) -> vec4<f32> {
    let block = offset / 32u;
    let scale = unpack2x16float(weight_scale[block / 2u] >> (16u * (block % 2u))).x;
    return scale * vec4<f32>(unpack4xI8(weight[offset / 4u]));
}
