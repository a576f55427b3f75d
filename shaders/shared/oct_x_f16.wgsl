// x of f16, packed two to a word, low half first, eight elements at a time: staged as it is. Same
// functions as oct_x_f32.
#import halves

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>; // elements 8i .. 8i + 8: x[i]

alias XOct = vec4<u32>;

fn x_oct(offset: u32, count: u32) -> XOct {
    if (count == 0u) {
        return XOct();
    }
    return x[offset / 8u];
}

fn x_low(oct: XOct) -> vec4<f16> {
    return unpacked(oct.xy);
}

fn x_high(oct: XOct) -> vec4<f16> {
    return unpacked(oct.zw);
}
