// Staging of slabs in workgroup memory: `width` rows of a matrix by TILE_K of its depth, k-major, so
// that element (row, k) is component row % 4 of quad k width / 4 + row / 4. Matrices are stored
// [rows, depth], or [depth, rows] if k_major. SLAB_QUADS, for all slabs of a kernel together, comes
// from the kernel.
const TILE_K: u32 = 16u;

var<workgroup> sh_slab: array<vec4<f32>, SLAB_QUADS>;

// Elements of a quad that lie before `end`.
fn left(at: u32, end: u32) -> u32 {
    return min(max(at, end) - at, 4u);
}

// Where quad q of a slab goes: (row, k) of its first element. Quads run along the dimension that is
// contiguous in memory, and so do neighbouring invocations.
fn quad_place(q: u32, width: u32, k_major: bool) -> vec2<u32> {
    if (k_major) {
        return vec2(q % (width / 4u) * 4u, q / (width / 4u));
    }
    return vec2(q / (TILE_K / 4u), q % (TILE_K / 4u) * 4u);
}

// Where the quad at (row, k) of a matrix lies in memory, and how many of its elements exist.
fn quad_source(at: vec2<u32>, rows: u32, depth: u32, k_major: bool) -> vec2<u32> {
    if (k_major) {
        return vec2(at.y * rows + at.x, select(0u, left(at.x, rows), at.y < depth));
    }
    return vec2(at.x * depth + at.y, select(0u, left(at.y, depth), at.x < rows));
}

// Keeps quad q of the slab that begins at quad `first`.
fn stage(first: u32, width: u32, k_major: bool, q: u32, quad: vec4<f32>) {
    let place = quad_place(q, width, k_major);
    if (k_major) {
        sh_slab[first + (place.y * width + place.x) / 4u] = quad;
        return;
    }
    for (var j = 0u; j < 4u; j++) { // unroll
        sh_slab[first + ((place.y + j) * width + place.x) / 4u][place.x % 4u] = quad[j];
    }
}
