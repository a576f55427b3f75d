// Embedding tables stored as f32. Same signatures as the other table_*.
@group(0) @binding(0) var<storage, read> table: array<f32>;     // [n_ids, cols]
@group(0) @binding(1) var<storage, read> positions: array<f32>; // [n_positions, cols]
@group(0) @binding(2) var<storage, read> segments: array<f32>;  // [n_segments, cols]

fn table_at(i: u32) -> f32 {
    return table[i];
}

fn positions_at(i: u32) -> f32 {
    return positions[i];
}

fn segments_at(i: u32) -> f32 {
    return segments[i];
}
