// x read four elements at a time: for shapes whose rows are whole groups of four.
#import x_f32

// Four consecutive elements, or zeros if count is 0.
fn x_quad(offset: u32, count: u32) -> vec4<f32> {
    if (count == 0u) {
        return vec4(0.0);
    }
    return load_x4(offset / 4u);
}
