// Rows are read 16 bytes at a time: their length is a multiple of 4. Same names as elem_f32.
alias Elem = vec4<f32>;
alias Bits = vec4<u32>;
alias Mask = vec4<bool>;
const WIDTH: u32 = 4u;

fn sum_of(v: Elem) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn max_of(v: Elem) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}
