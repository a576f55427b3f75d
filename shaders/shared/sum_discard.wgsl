// The op does not produce `sum`. Same signature as sum_store.
fn store_sum(i: u32, value: f32) {}
