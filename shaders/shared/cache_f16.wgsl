// Caches in f16, two columns to a word, low half first. Same functions as cache_f32.
const PER_WORD: u32 = 2u;

@group(0) @binding(2) var<storage, read_write> k_cache: array<u32>; // [batch, context, width]
@group(0) @binding(3) var<storage, read_write> v_cache: array<u32>; // [batch, context, width]

// The nearest f16, ties to even, saturated, as bits. By integers throughout: drivers may round
// either way when they pack, may make an infinity, and may flush subnormal halves.
fn half_bits(value: f32) -> u32 {
    let size = bitcast<u32>(value) & 0x7fffffffu;
    let held = min(size, 0x477fe000u); // 65504
    // Thirteen bits of the fraction go, and the exponent's bias shrinks by 112.
    let normal = ((held + 0xfffu + ((held >> 13u) & 1u)) >> 13u) - 0x1c000u;
    // Below 2^-14 halves are multiples of 2^-24, and so are the f32 between 0.5 and 1.
    let small = bitcast<u32>(bitcast<f32>(held) + 0.5) - 0x3f000000u;
    let bits = select(normal, small, held < 0x38800000u);
    return ((bitcast<u32>(value) >> 16u) & 0x8000u) | select(bits, 0x7e00u, size > 0x7f800000u);
}

fn halves(low: f32, high: f32) -> u32 {
    return half_bits(low) | (half_bits(high) << 16u);
}

fn keep_k(word: u32, first: f32, second: f32) {
    k_cache[word] = halves(first, second);
}

fn keep_v(word: u32, first: f32, second: f32) {
    v_cache[word] = halves(first, second);
}
