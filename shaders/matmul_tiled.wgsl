// y = act(x weight + bias) + residual through workgroup memory, for any shape and layout.
//
// x: [batch, m, k], or [batch, k, m] if X_TRANSPOSED; weight: [k, n], or [n, k] if W_TRANSPOSED,
// optionally per batch; y: [batch, m, n]. A workgroup computes TILE_M x TILE_N elements of y,
// each invocation 8 x 8 of them in registers: two groups of four rows, half a tile apart, by
// two groups of four columns, so that neighbours read neighbouring words. Slabs of TILE_K are
// staged k-major; the next slab waits in registers while this one is multiplied.
//
// Safety: quads are read with the number of elements left before the end of their row (0 when
// the row itself is beyond the matrix), so loads stay inside x and weight; finish() is called
// for rows < m and columns < n only. Both halves of a slab are written in full before the
// barrier in front of the reads.
#import fold
#import matmul_params
#import x_scalar
#import weight_f32_scalar
#import matmul_epilogue

const X_TRANSPOSED: bool = false;
const W_TRANSPOSED: bool = true;
const TILE_M: u32 = 64u;
const TILE_N: u32 = 64u;
const TILE_K: u32 = 16u;

const THREADS_M: u32 = TILE_M / 8u;
const THREADS_N: u32 = TILE_N / 8u;
const THREADS: u32 = THREADS_M * THREADS_N;
// Quads of x and of the weight that one invocation stages per slab.
const X_QUADS: u32 = TILE_M * TILE_K / 4u / THREADS;
const W_QUADS: u32 = TILE_N * TILE_K / 4u / THREADS;

// The slab: element (row, k) of x at [k * TILE_M / 4 + row / 4][row % 4], the weight alike.
var<workgroup> sh_x: array<vec4<f32>, TILE_K * TILE_M / 4u>;
var<workgroup> sh_weight: array<vec4<f32>, TILE_K * TILE_N / 4u>;

// Elements of a quad that lie before `end`.
fn left(at: u32, end: u32) -> u32 {
    return min(max(at, end) - at, 4u);
}

// Where quad `q` of a slab of `width` rows goes: (row, k) of its first element. Quads run along
// the dimension that is contiguous in memory, and so do neighbouring invocations.
fn quad_place(q: u32, width: u32, k_major: bool) -> vec2<u32> {
    if (k_major) {
        return vec2(q % (width / 4u) * 4u, q / (width / 4u));
    }
    return vec2(q / (TILE_K / 4u), q % (TILE_K / 4u) * 4u);
}

fn fetch_x(base: u32, row0: u32, k0: u32, q: u32) -> vec4<f32> {
    let place = quad_place(q, TILE_M, X_TRANSPOSED);
    let row = row0 + place.x;
    let k = k0 + place.y;
    if (X_TRANSPOSED) {
        return x_quad(base + k * params.m + row, select(0u, left(row, params.m), k < params.k));
    }
    return x_quad(base + row * params.k + k, select(0u, left(k, params.k), row < params.m));
}

fn fetch_weight(base: u32, column0: u32, k0: u32, q: u32) -> vec4<f32> {
    let place = quad_place(q, TILE_N, !W_TRANSPOSED);
    let column = column0 + place.x;
    let k = k0 + place.y;
    if (W_TRANSPOSED) {
        let count = select(0u, left(k, params.k), column < params.n);
        return weight_quad(base + column * params.k + k, count);
    }
    let count = select(0u, left(column, params.n), k < params.k);
    return weight_quad(base + k * params.n + column, count);
}

fn stage_x(q: u32, quad: vec4<f32>) {
    let place = quad_place(q, TILE_M, X_TRANSPOSED);
    if (X_TRANSPOSED) {
        sh_x[(place.y * TILE_M + place.x) / 4u] = quad;
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        sh_x[((place.y + j) * TILE_M + place.x) / 4u][place.x % 4u] = quad[j];
    }
}

fn stage_weight(q: u32, quad: vec4<f32>) {
    let place = quad_place(q, TILE_N, !W_TRANSPOSED);
    if (!W_TRANSPOSED) {
        sh_weight[(place.y * TILE_N + place.x) / 4u] = quad;
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        sh_weight[((place.y + j) * TILE_N + place.x) / 4u][place.x % 4u] = quad[j];
    }
}

// Four rows by eight columns of sums: columns 0..4 and 4..8 of each row.
struct Sums {
    row0: vec4<f32>, row1: vec4<f32>, row2: vec4<f32>, row3: vec4<f32>,
    row0b: vec4<f32>, row1b: vec4<f32>, row2b: vec4<f32>, row3b: vec4<f32>,
}

fn multiply(sums: ptr<function, Sums>, rows: vec4<f32>, first: vec4<f32>, second: vec4<f32>) {
    (*sums).row0 += rows.x * first;
    (*sums).row1 += rows.y * first;
    (*sums).row2 += rows.z * first;
    (*sums).row3 += rows.w * first;
    (*sums).row0b += rows.x * second;
    (*sums).row1b += rows.y * second;
    (*sums).row2b += rows.z * second;
    (*sums).row3b += rows.w * second;
}

fn finish_four(sample: u32, row: u32, column: u32, sums: vec4<f32>) {
    if (row >= params.m) {
        return;
    }
    let index = (sample * params.m + row) * params.y_row_stride + params.n_offset + column;
    for (var j = 0u; j < 4u; j++) {
        if (column + j < params.n) {
            finish(index + j, params.n_offset + column + j, sums[j]);
        }
    }
}

fn finish_sums(sample: u32, row: u32, column: u32, sums: Sums) {
    var rows = array(
        sums.row0, sums.row1, sums.row2, sums.row3, sums.row0b, sums.row1b, sums.row2b, sums.row3b
    );
    for (var i = 0u; i < 8u; i++) {
        finish_four(sample, row + i % 4u, column + i / 4u * (TILE_N / 2u), rows[i]);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles_m = (params.m + TILE_M - 1u) / TILE_M;
    let tiles_n = (params.n + TILE_N - 1u) / TILE_N;
    let tile = fold(workgroup, grid);
    let batch = tile / (tiles_m * tiles_n);
    if (batch >= params.batch) {
        return;
    }
    let row0 = (tile / tiles_n) % tiles_m * TILE_M;
    let column0 = tile % tiles_n * TILE_N;
    let sample = params.batch_offset + batch;
    let x_base = sample * params.m * params.k;
    let w_base = batch * params.w_batch_stride;
    let row_quad = thread / THREADS_N;
    let column_quad = thread % THREADS_N;

    var x_next: array<vec4<f32>, X_QUADS>;
    var w_next: array<vec4<f32>, W_QUADS>;
    for (var i = 0u; i < X_QUADS; i++) {
        x_next[i] = fetch_x(x_base, row0, 0u, thread + i * THREADS);
    }
    for (var i = 0u; i < W_QUADS; i++) {
        w_next[i] = fetch_weight(w_base, column0, 0u, thread + i * THREADS);
    }
    var upper: Sums;
    var lower: Sums;
    for (var k0 = 0u; k0 < params.k; k0 += TILE_K) {
        for (var i = 0u; i < X_QUADS; i++) {
            stage_x(thread + i * THREADS, x_next[i]);
        }
        for (var i = 0u; i < W_QUADS; i++) {
            stage_weight(thread + i * THREADS, w_next[i]);
        }
        workgroupBarrier(); // the slab is in place
        for (var i = 0u; i < X_QUADS; i++) {
            x_next[i] = fetch_x(x_base, row0, k0 + TILE_K, thread + i * THREADS);
        }
        for (var i = 0u; i < W_QUADS; i++) {
            w_next[i] = fetch_weight(w_base, column0, k0 + TILE_K, thread + i * THREADS);
        }
        for (var k = 0u; k < TILE_K; k++) {
            let x_at = k * (TILE_M / 4u) + row_quad;
            let w_at = k * (TILE_N / 4u) + column_quad;
            let first = sh_weight[w_at];
            let second = sh_weight[w_at + THREADS_N];
            multiply(&upper, sh_x[x_at], first, second);
            multiply(&lower, sh_x[x_at + THREADS_M], first, second);
        }
        workgroupBarrier(); // everyone has read the slab before it is overwritten
    }
    let row = row0 + 4u * row_quad;
    let column = column0 + 4u * column_quad;
    finish_sums(sample, row, column, upper);
    finish_sums(sample, row + TILE_M / 2u, column, lower);
}
