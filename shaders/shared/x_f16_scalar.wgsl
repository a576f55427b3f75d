// x of f16, packed two to a word, an element at a time, at any offset. Same function as x_f32_scalar.
@group(0) @binding(0) var<storage, read> x: array<u32>; // element e: half e % 2 of x[e / 2]

fn load_x(offset: u32) -> f32 {
    return unpack2x16float(x[offset / 2u] >> (16u * (offset % 2u))).x;
}
