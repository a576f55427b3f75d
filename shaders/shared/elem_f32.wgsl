// Rows are read one value at a time. Same names as elem_vec4.
alias Elem = f32;
alias Bits = u32;
alias Mask = bool;
const WIDTH: u32 = 1u;

fn sum_of(v: Elem) -> f32 {
    return v;
}

fn max_of(v: Elem) -> f32 {
    return v;
}
