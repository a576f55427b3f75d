// bf16 weights, packed two to a word, at any offset. Same functions as weight_f32_scalar.
#import quad_scalar

@group(0) @binding(1) var<storage, read> weight: array<u32>; // element e: half e % 2 of weight[e / 2]

fn load_weight(offset: u32) -> f32 {
    return bitcast<f32>((weight[offset / 2u] >> (16u * (offset % 2u))) << 16u);
}
