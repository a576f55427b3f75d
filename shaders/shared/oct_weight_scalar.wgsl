// Weights of any dtype an element at a time, at any offset. Same functions as oct_weight_f32.
#import halves
#import weight_f32_scalar

alias WOct = mat2x4<f32>;

// The first `count` of eight consecutive weights, zeros for the rest.
fn weight_oct(offset: u32, count: u32) -> WOct {
    return WOct(weight_quad(offset, count), weight_quad(offset + 4u, max(count, 4u) - 4u));
}

fn weight_low(oct: WOct) -> vec4<f16> {
    return saturated(oct[0]);
}

fn weight_high(oct: WOct) -> vec4<f16> {
    return saturated(oct[1]);
}
