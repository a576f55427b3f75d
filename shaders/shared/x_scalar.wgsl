// x read an element at a time, at any offset. Same function as x_vec4.
@group(0) @binding(0) var<storage, read> x: array<f32>;

// The first `count` of four consecutive elements, zeros for the rest.
fn x_quad(offset: u32, count: u32) -> vec4<f32> {
    var quad = vec4(0.0);
    for (var j = 0u; j < 4u; j++) { // unroll
        if (j < count) {
            quad[j] = x[offset + j];
        }
    }
    return quad;
}
