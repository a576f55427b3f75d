// bf16 weights (the upper half of an f32), packed two to a word, low half first, eight at a
// time; beyond the range of f16 they saturate. Same functions as oct_weight_f32.
#import halves

@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>; // elements 8i .. 8i + 8: weight[i]

alias WOct = vec4<u32>;

fn weight_oct(offset: u32, count: u32) -> WOct {
    if (count == 0u) {
        return WOct();
    }
    return weight[offset / 8u];
}

fn narrowed(words: vec2<u32>) -> vec4<f16> {
    let shifted = words.xxyy << vec4(16u, 0u, 16u, 0u);
    return saturated(bitcast<vec4<f32>>(shifted & vec4(0xffff0000u)));
}

fn weight_low(oct: WOct) -> vec4<f16> {
    return narrowed(oct.xy);
}

fn weight_high(oct: WOct) -> vec4<f16> {
    return narrowed(oct.zw);
}
