// x an element at a time, at any offset. Same functions as oct_x_f32.
#import halves
#import x_scalar

alias XOct = mat2x4<f32>;

// The first `count` of eight consecutive elements, zeros for the rest.
fn x_oct(offset: u32, count: u32) -> XOct {
    return XOct(x_quad(offset, count), x_quad(offset + 4u, max(count, 4u) - 4u));
}

fn x_low(oct: XOct) -> vec4<f16> {
    return saturated(oct[0]);
}

fn x_high(oct: XOct) -> vec4<f16> {
    return saturated(oct[1]);
}
