// The op does not produce `sum`. Same signature as sum_store; Elem comes from elem_*.
fn store_sum(i: u32, value: Elem) {}
