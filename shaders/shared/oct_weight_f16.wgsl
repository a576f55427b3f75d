// f16 weights, packed two to a word, low half first, eight at a time. Same functions as
// oct_weight_f32.
#import halves

@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>; // elements 8i .. 8i + 8: weight[i]

alias WOct = vec4<u32>;

fn weight_oct(offset: u32, count: u32) -> WOct {
    if (count == 0u) {
        return WOct();
    }
    return weight[offset / 8u];
}

fn weight_low(oct: WOct) -> vec4<f16> {
    return unpacked(oct.xy);
}

fn weight_high(oct: WOct) -> vec4<f16> {
    return unpacked(oct.zw);
}
