// x of f32, eight elements at a time: for rows of whole groups of eight. As read, and as the
// halves that are multiplied. Same functions as oct_x_f16 and oct_x_scalar.
#import halves

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // element e: x[e / 4][e % 4]

alias XOct = mat2x4<f32>;

// Eight consecutive elements, or zeros if count is 0.
fn x_oct(offset: u32, count: u32) -> XOct {
    if (count == 0u) {
        return XOct();
    }
    return XOct(x[offset / 4u], x[offset / 4u + 1u]);
}

fn x_low(oct: XOct) -> vec4<f16> {
    return saturated(oct[0]);
}

fn x_high(oct: XOct) -> vec4<f16> {
    return saturated(oct[1]);
}
