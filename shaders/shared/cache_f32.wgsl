// Caches in f32. Same functions as cache_f16, whose words hold a second column.
const PER_WORD: u32 = 1u;

@group(0) @binding(2) var<storage, read_write> k_cache: array<f32>; // [batch, context, width]
@group(0) @binding(3) var<storage, read_write> v_cache: array<f32>; // [batch, context, width]

fn keep_k(word: u32, first: f32, second: f32) {
    k_cache[word] = first;
}

fn keep_v(word: u32, first: f32, second: f32) {
    v_cache[word] = first;
}
