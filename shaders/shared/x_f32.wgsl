// x of f32, four elements at a time: for rows of whole groups of four.
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // element e: x[e / 4][e % 4]

// Elements 4i .. 4i + 4.
fn load_x4(i: u32) -> vec4<f32> {
    return x[i];
}
