enable wgpu_cooperative_matrix;
// y = act(x weight + bias) + residual on matrix units: products of f16, sums of f32.
//
// x: [batch, m, k], or [batch, k, m] if X_TRANSPOSED, f32 or f16; weight: [k, n], or [n, k] if
// W_TRANSPOSED, optionally per batch, f32, f16 or bf16; y: [batch, m, n], f32 or f16. What is not f16 is
// rounded to it while it is staged, and saturates.
//
// A workgroup computes TILE_M x TILE_N elements of y, its four subgroups a quarter each: BLOCK x
// BLOCK fragments, which stay in registers from the first slab to the last. Slabs of TILE_K are
// staged as they lie in memory, eight elements by each invocation at a time, and the load of a
// fragment says which way it lies, so that nothing is transposed by hand. The next slab waits in
// registers while this one is multiplied.
//
// Matrices can only be stored whole and have no known order of elements, so they go out before
// bias, activation and residual: to y if it is f32 and as wide as the product and the tile lies inside
// it, else to a slot of scratch. Each subgroup then reads its own part back and finishes it, whole lines at a time. (Through workgroup
// memory instead, the driver of an H200 makes the loop over slabs take half again as long.)
//
// Safety: octs are read with the number of elements left before the end of their row (0 when the
// row itself is beyond the matrix), or, if WHOLE (x is not transposed then), at rows that are
// clamped to the last, so loads stay inside x and weight; both slabs are written in
// full before the barrier in front of the reads; matrices are stored where all of their rows and
// columns are inside y, or inside the tile's own slot of scratch; finish_at() is called for rows < m
// and columns < n only.
#import matmul_params
#import oct_x_f32
#import oct_weight_f32
#import matmul_epilogue
#import slab_quads
#import sums_to_y

const X_TRANSPOSED: bool = false;
const W_TRANSPOSED: bool = true;
// Whether k is a multiple of TILE_K and all rows are whole groups of eight: nothing is beyond k,
// and what is beyond m or n may be anything, since it never reaches y.
const WHOLE: bool = false;
// Invocations of a subgroup, and the side of the matrices that its hardware multiplies.
const SUBGROUP: u32 = 32u;
const FRAGMENT: u32 = 16u;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
// Fragments of a subgroup's part of the tile, down and across. Even.
const BLOCK: u32 = 4u;
const TILE_K: u32 = 32u;
// Row tiles that are walked before the next column tile: what they share stays in the cache.
const PANEL: u32 = 8u;

const THREADS: u32 = 4u * SUBGROUP;
const PART: u32 = BLOCK * FRAGMENT;
const TILE: u32 = 2u * PART;
// Octs of x and of the weight that one invocation stages per slab.
const OCTS: u32 = TILE * TILE_K / 8u / THREADS;
// The slabs have rows of k if the matrix has k contiguous, else rows of the tile's other dimension.
// Groups of four halves per row, eight halves of padding included: fragments' rows then
// lie in different banks.
const K_STRIDE: u32 = TILE_K / 4u + 2u;
const TILE_STRIDE: u32 = TILE / 4u + 2u;
const SLAB: u32 = max(TILE * K_STRIDE, TILE_K * TILE_STRIDE);
// Sums that an invocation reads back before it finishes them: loads that are under way at once.
const HELD: u32 = min(16u, PART * PART / SUBGROUP);

// Tiles that are not stored straight to y, TILE x TILE each.
@group(0) @binding(5) var<storage, read_write> scratch: array<f32>;

// Elements of an oct that lie before `end`.
fn left(at: u32, end: u32) -> u32 {
    return min(max(at, end) - at, 8u);
}

// Oct `q` of a slab: the row (or column) in the tile and the k of its first element. Octs run
// along the dimension that is contiguous in memory, and so do neighbouring invocations.
fn oct_place(q: u32, k_contiguous: bool) -> vec2<u32> {
    if (k_contiguous) {
        return vec2(q / (TILE_K / 8u), q % (TILE_K / 8u) * 8u);
    }
    return vec2(q % (TILE / 8u) * 8u, q / (TILE / 8u));
}

// Where that oct begins in the slab.
fn oct_slot(q: u32, k_contiguous: bool) -> u32 {
    let place = oct_place(q, k_contiguous);
    if (k_contiguous) {
        return place.x * K_STRIDE + place.y / 4u;
    }
    return place.y * TILE_STRIDE + place.x / 4u;
}

fn fetch_x(base: u32, row0: u32, k0: u32, q: u32) -> XOct {
    let place = oct_place(q, !X_TRANSPOSED);
    let row = row0 + place.x;
    let k = k0 + place.y;
    if (WHOLE) {
        return x_oct(base + min(row, params.m - 1u) * params.k + k, 8u);
    }
    if (X_TRANSPOSED) {
        return x_oct(base + k * params.m + row, select(0u, left(row, params.m), k < params.k));
    }
    return x_oct(base + row * params.k + k, select(0u, left(k, params.k), row < params.m));
}

fn fetch_weight(base: u32, column0: u32, k0: u32, q: u32) -> WOct {
    let place = oct_place(q, W_TRANSPOSED);
    let column = column0 + place.x;
    let k = k0 + place.y;
    if (WHOLE) {
        if (W_TRANSPOSED) {
            return weight_oct(base + min(column, params.n - 1u) * params.k + k, 8u);
        }
        return weight_oct(base + k * params.n + min(column, params.n - 8u), 8u);
    }
    if (W_TRANSPOSED) {
        let count = select(0u, left(k, params.k), column < params.n);
        return weight_oct(base + column * params.k + k, count);
    }
    let count = select(0u, left(column, params.n), k < params.k);
    return weight_oct(base + k * params.n + column, count);
}

// The fragment of x at this row and k of the slab.
fn left_fragment(row: u32, k: u32) -> Left {
    if (X_TRANSPOSED) {
        let at = k * TILE_STRIDE + row / 4u;
        return coopLoad<Left>(&sh_x[at * SLAB_SCALE], TILE_STRIDE * SLAB_SCALE);
    }
    let at = row * K_STRIDE + k / 4u;
    return coopLoadT<Left>(&sh_x[at * SLAB_SCALE], K_STRIDE * SLAB_SCALE);
}

// The fragment of the weight at this k and column of the slab.
fn right_fragment(k: u32, column: u32) -> Right {
    if (W_TRANSPOSED) {
        let at = column * K_STRIDE + k / 4u;
        return coopLoad<Right>(&sh_weight[at * SLAB_SCALE], K_STRIDE * SLAB_SCALE);
    }
    let at = k * TILE_STRIDE + column / 4u;
    return coopLoadT<Right>(&sh_weight[at * SLAB_SCALE], TILE_STRIDE * SLAB_SCALE);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles_m = (params.m + TILE - 1u) / TILE;
    let tiles_n = (params.n + TILE - 1u) / TILE;
    // As fold() has it; naga would not see that the result of a call is uniform.
    let tile = workgroup.y * grid.x + workgroup.x;
    let batch = tile / (tiles_m * tiles_n);
    if (batch >= params.batch) {
        return;
    }
    let within = tile % (tiles_m * tiles_n);
    let panel = within / (PANEL * tiles_n) * PANEL;
    let tall = min(tiles_m - panel, PANEL);
    let step = within % (PANEL * tiles_n);
    let row0 = (panel + step % tall) * TILE;
    let column0 = step / tall * TILE;
    let sample = params.batch_offset + batch;
    let x_base = sample * params.m * params.k;
    let w_base = batch * params.w_batch_stride;
    let subgroup = thread / SUBGROUP;
    let lane = thread % SUBGROUP;
    let part_row = subgroup / 2u * PART;
    let part_column = subgroup % 2u * PART;

    var x_next: array<XOct, OCTS>;
    var w_next: array<WOct, OCTS>;
    for (var i = 0u; i < OCTS; i++) { // unroll
        x_next[i] = fetch_x(x_base, row0, 0u, thread + i * THREADS);
        w_next[i] = fetch_weight(w_base, column0, 0u, thread + i * THREADS);
    }
    var sums: array<Sums, BLOCK * BLOCK>;
    for (var i = 0u; i < BLOCK * BLOCK; i++) { // unroll
        sums[i] = Sums();
    }
    for (var k0 = 0u; k0 < params.k; k0 += TILE_K) {
        for (var i = 0u; i < OCTS; i++) { // unroll
            let x_slot = oct_slot(thread + i * THREADS, !X_TRANSPOSED);
            stage_x(x_slot, x_low(x_next[i]));
            stage_x(x_slot + 1u, x_high(x_next[i]));
            let w_slot = oct_slot(thread + i * THREADS, W_TRANSPOSED);
            stage_weight(w_slot, weight_low(w_next[i]));
            stage_weight(w_slot + 1u, weight_high(w_next[i]));
        }
        workgroupBarrier(); // the slab is in place
        if (k0 + TILE_K < params.k) {
            for (var i = 0u; i < OCTS; i++) { // unroll
                x_next[i] = fetch_x(x_base, row0, k0 + TILE_K, thread + i * THREADS);
                w_next[i] = fetch_weight(w_base, column0, k0 + TILE_K, thread + i * THREADS);
            }
        }
        for (var k = 0u; k < TILE_K; k += FRAGMENT) { // unroll
            var rows: array<Left, BLOCK>;
            for (var i = 0u; i < BLOCK; i++) { // unroll
                rows[i] = left_fragment(part_row + i * FRAGMENT, k);
            }
            for (var j = 0u; j < BLOCK; j++) { // unroll
                let column = right_fragment(k, part_column + j * FRAGMENT);
                for (var i = 0u; i < BLOCK; i++) { // unroll
                    sums[i * BLOCK + j] = coopMultiplyAdd(rows[i], column, sums[i * BLOCK + j]);
                }
            }
        }
        workgroupBarrier(); // everyone has read the slab before it is overwritten
    }

    // Stores want rows of 16-byte groups. Slots: of all tiles if they are not, else of the last
    // column and the last row of tiles, which alone may reach over the edge.
    let aligned = STRAIGHT & (((params.y_row_stride | params.n_offset) & 3u) == 0u);
    let inside = (row0 + TILE <= params.m) & (column0 + TILE <= params.n);
    let first = (sample * params.m + row0 + part_row) * params.y_row_stride + column0 + part_column;
    let corner = first + params.n_offset;
    if (aligned & inside) {
        let stride = params.y_row_stride;
        for (var i = 0u; i < BLOCK; i++) { // unroll
            for (var j = 0u; j < BLOCK; j++) { // unroll
                let at = corner + i * FRAGMENT * stride + j * FRAGMENT;
                store_to_y(at, sums[i * BLOCK + j], stride);
            }
        }
        if (ACT == 0u && !HAS_BIAS && !HAS_RESIDUAL) {
            return;
        }
        storageBarrier(); // the subgroup's part of y is in place
        for (var e = lane; e < PART * PART; e += HELD * SUBGROUP) {
            var held: array<f32, HELD>;
            for (var i = 0u; i < HELD; i++) { // unroll
                let at = e + i * SUBGROUP;
                held[i] = f32(y[corner + at / PART * stride + at % PART]);
            }
            for (var i = 0u; i < HELD; i++) { // unroll
                let at = e + i * SUBGROUP;
                let column = params.n_offset + column0 + part_column + at % PART;
                finish_at(corner + at / PART * stride + at % PART, column, held[i]);
            }
        }
        return;
    }
    let edge = select(tiles_m + column0 / TILE, row0 / TILE, column0 + TILE > params.n);
    let any = batch * tiles_m * tiles_n + row0 / TILE * tiles_n + column0 / TILE;
    let slot = select(any, batch * (tiles_m + tiles_n) + edge, aligned);
    let mine = slot * TILE * TILE + part_row * TILE + part_column;
    let stride = TILE;
    for (var i = 0u; i < BLOCK; i++) { // unroll
        for (var j = 0u; j < BLOCK; j++) { // unroll
            let at = mine + i * FRAGMENT * stride + j * FRAGMENT;
            let out = sums[i * BLOCK + j];
            coopStoreT(out, &scratch[at], stride);
        }
    }
    storageBarrier(); // the subgroup's part of the slot is in place
    if (GATED) {
        for (var e = lane; e < PART * PART / 2u; e += SUBGROUP) {
            let row = part_row + e / (PART / 2u);
            let column = part_column + e % (PART / 2u) * 2u;
            if ((row0 + row < params.m) & (column0 + column < params.n)) {
                let at = slot * TILE * TILE + row * TILE + column;
                finish_pair(sample, row0 + row, column0 + column, scratch[at], scratch[at + 1u]);
            }
        }
        return;
    }
    for (var e = lane; e < PART * PART; e += SUBGROUP) {
        let row = e / PART;
        let column = e % PART;
        let in_rows = row0 + part_row + row < params.m;
        let in_columns = column0 + part_column + column < params.n;
        if (in_rows & in_columns) {
            let at = corner + row * params.y_row_stride + column;
            let sum = scratch[mine + row * TILE + column];
            finish_at(at, params.n_offset + column0 + part_column + column, sum);
        }
    }
}
