// x read four elements at a time: for shapes whose rows are whole groups of four.
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // element e: x[e / 4][e % 4]

// Four consecutive elements, or zeros if count is 0.
fn x_quad(offset: u32, count: u32) -> vec4<f32> {
    if (count == 0u) {
        return vec4(0.0);
    }
    return x[offset / 4u];
}
