// x read an element at a time, at any offset. Same function as x_vec4.
#import x_f32_scalar

// The first `count` of four consecutive elements, zeros for the rest.
fn x_quad(offset: u32, count: u32) -> vec4<f32> {
    if (count == 0u) {
        return vec4(0.0);
    }
    // Without a loop, whose rounds would count per quad, and without a branch per element.
    let at = offset + min(vec4(0u, 1u, 2u, 3u), vec4(count - 1u));
    let quad = vec4(load_x(at.x), load_x(at.y), load_x(at.z), load_x(at.w));
    return select(vec4(0.0), quad, vec4(0u, 1u, 2u, 3u) < vec4(count));
}
