// The op produces `sum`, the input plus the residual. Same signature as sum_discard; Elem
// comes from elem_*.
@group(0) @binding(7) var<storage, read_write> sum: array<Elem>; // [rows, cols]

fn store_sum(i: u32, value: Elem) {
    sum[i] = value;
}
