// The first `count` of four consecutive weights, zeros for the rest; any offset.
fn weight_quad(offset: u32, count: u32) -> vec4<f32> {
    if (count == 0u) {
        return vec4(0.0);
    }
    // Without a loop, whose rounds would count per quad, and without a branch per element.
    let at = offset + min(vec4(0u, 1u, 2u, 3u), vec4(count - 1u));
    let quad = vec4(load_weight(at.x), load_weight(at.y), load_weight(at.z), load_weight(at.w));
    return select(vec4(0.0), quad, vec4(0u, 1u, 2u, 3u) < vec4(count));
}
