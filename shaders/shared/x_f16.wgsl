// x of f16, packed two to a word, low half first. Same function as x_f32.
@group(0) @binding(0) var<storage, read> x: array<vec2<u32>>; // elements 4i .. 4i + 4: x[i]

fn load_x4(i: u32) -> vec4<f32> {
    let words = x[i];
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}
