// x of f32 an element at a time, at any offset. Same functions as oct_x_f32.
#import halves

@group(0) @binding(0) var<storage, read> x: array<f32>;

alias XOct = mat2x4<f32>;

// The first `count` of eight consecutive elements, zeros for the rest.
fn x_oct(offset: u32, count: u32) -> XOct {
    var oct = XOct();
    for (var j = 0u; j < 8u; j++) { // unroll
        if (j < count) {
            oct[j / 4u][j % 4u] = x[offset + j];
        }
    }
    return oct;
}

fn x_low(oct: XOct) -> vec4<f16> {
    return saturated(oct[0]);
}

fn x_high(oct: XOct) -> vec4<f16> {
    return saturated(oct[1]);
}
