// q8_0 weights at any offset: i8 quants four to a word, low byte first, and one f16 scale per 32 of
// them, two to a word. Blocks lie along k. Same functions as weight_f32_scalar.
#import quad_scalar

@group(0) @binding(1) var<storage, read> weight: array<u32>;        // quant e: byte e % 4 of [e / 4]
@group(0) @binding(5) var<storage, read> weight_scale: array<u32>; // block b: half b % 2 of [b / 2]

fn load_weight(offset: u32) -> f32 {
    let block = offset / 32u;
    let scale = unpack2x16float(weight_scale[block / 2u] >> (16u * (block % 2u))).x;
    // The byte's sign goes along with the shift.
    let quant = bitcast<i32>(weight[offset / 4u] << (24u - 8u * (offset % 4u))) >> 24u;
    return scale * f32(quant);
}
