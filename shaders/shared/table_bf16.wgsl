// Embedding tables stored as bf16, two to a word: the upper halves of f32. Same signatures as the other table_*.
@group(0) @binding(0) var<storage, read> table: array<u32>;     // [n_ids, cols]
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [n_positions, cols]
@group(0) @binding(2) var<storage, read> segments: array<u32>;  // [n_segments, cols]

fn half_of(word: u32, i: u32) -> f32 {
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, i % 2u == 1u));
}

fn table_at(i: u32) -> f32 {
    return half_of(table[i / 2u], i);
}

fn positions_at(i: u32) -> f32 {
    return half_of(positions[i / 2u], i);
}

fn segments_at(i: u32) -> f32 {
    return half_of(segments[i / 2u], i);
}
