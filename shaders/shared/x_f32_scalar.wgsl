// x of f32 an element at a time, at any offset.
@group(0) @binding(0) var<storage, read> x: array<f32>;

fn load_x(offset: u32) -> f32 {
    return x[offset];
}
