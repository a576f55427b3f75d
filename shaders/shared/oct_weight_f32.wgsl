// f32 weights, eight at a time: for rows of whole groups of eight. As read, and as the halves
// that are multiplied. Same functions as the other oct_weight files.
#import halves

@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>; // element e: weight[e / 4][e % 4]

alias WOct = mat2x4<f32>;

// Eight consecutive weights, or zeros if count is 0.
fn weight_oct(offset: u32, count: u32) -> WOct {
    if (count == 0u) {
        return WOct();
    }
    return WOct(weight[offset / 4u], weight[offset / 4u + 1u]);
}

fn weight_low(oct: WOct) -> vec4<f16> {
    return saturated(oct[0]);
}

fn weight_high(oct: WOct) -> vec4<f16> {
    return saturated(oct[1]);
}
