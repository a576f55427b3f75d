// The first `count` of four consecutive weights, zeros for the rest; any offset.
fn weight_quad(offset: u32, count: u32) -> vec4<f32> {
    var quad = vec4(0.0);
    for (var j = 0u; j < 4u; j++) { // unroll
        if (j < count) {
            quad[j] = load_weight(offset + j);
        }
    }
    return quad;
}
