// Embedding tables stored as q8_0: i8 quants four to a word, low byte first, and one f16 scale per 32
// columns, two to a word. Positions and segments, which are small, are f32: a scale for each would
// exceed eight bindings. Same signatures as the other table_*.
@group(0) @binding(0) var<storage, read> table: array<u32>;       // [n_ids, cols]
@group(0) @binding(1) var<storage, read> positions: array<f32>;   // [n_positions, cols]
@group(0) @binding(2) var<storage, read> segments: array<f32>;    // [n_segments, cols]
@group(0) @binding(7) var<storage, read> table_scale: array<u32>; // [n_ids, cols / 32]

fn table_at(i: u32) -> f32 {
    let block = i / 32u;
    let scale = unpack2x16float(table_scale[block / 2u] >> (16u * (block % 2u))).x;
    // The byte's sign goes along with the shift.
    let quant = bitcast<i32>(table[i / 4u] << (24u - 8u * (i % 4u))) >> 24u;
    return scale * f32(quant);
}

fn positions_at(i: u32) -> f32 {
    return positions[i];
}

fn segments_at(i: u32) -> f32 {
    return segments[i];
}
