// Caches in f16, two columns to a word, low half first. Same functions as cache_f32.
const PER_WORD: u32 = 2u;

@group(0) @binding(2) var<storage, read_write> k_cache: array<u32>; // [batch, context, width]
@group(0) @binding(3) var<storage, read_write> v_cache: array<u32>; // [batch, context, width]

// The nearest f16, ties to even, saturated: drivers may round either way when they pack, and may
// make an infinity. (Subnormal halves are left to the driver.)
fn nearest_half(value: f32) -> f32 {
    let bits = bitcast<u32>(clamp(value, -65504.0, 65504.0));
    return bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
}

fn halves(low: f32, high: f32) -> u32 {
    return pack2x16float(vec2(nearest_half(low), nearest_half(high)));
}

fn keep_k(to: u32, from_k: u32) {
    k_cache[to] = halves(k[from_k], k[from_k + 1u]);
}

fn keep_v(to: u32, from_v: u32) {
    v_cache[to] = halves(v[from_v], v[from_v + 1u]);
}
