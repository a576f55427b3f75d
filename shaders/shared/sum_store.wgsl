// The op produces `sum`, the input plus the residual. Same signature as sum_discard.
@group(0) @binding(7) var<storage, read_write> sum: array<f32>; // [rows, cols]

fn store_sum(i: u32, value: f32) {
    sum[i] = value;
}
