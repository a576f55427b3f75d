// Caches in f32. Same functions as cache_f16.
const PER_WORD: u32 = 1u;

@group(0) @binding(2) var<storage, read_write> k_cache: array<f32>; // [batch, context, width]
@group(0) @binding(3) var<storage, read_write> v_cache: array<f32>; // [batch, context, width]

fn keep_k(to: u32, from_k: u32) {
    k_cache[to] = k[from_k];
}

fn keep_v(to: u32, from_v: u32) {
    v_cache[to] = v[from_v];
}
