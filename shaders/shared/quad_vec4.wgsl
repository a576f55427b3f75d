// Four consecutive weights, or none: for shapes whose rows are whole groups of four.
// Same function as quad_scalar.
fn weight_quad(offset: u32, count: u32) -> vec4<f32> {
    if (count == 0u) {
        return vec4(0.0);
    }
    return load_weight4(offset);
}
