// y = act(x weight^T + bias) + residual for a few rows of x: bound by reading the weight once.
//
// x: [batch, m, k] with m <= ROWS; weight: [n, k], optionally per batch; y: [batch, m, n].
// A workgroup computes COLS = 8 columns of y for all rows. Its lanes share k: lane l takes eight
// k at 8 (l + i THREADS), so a step reads eight contiguous runs of the weight, and each x it
// loads serves eight columns. The lanes' sums are added at the end by a fixed tree.
// Requires k % 8 == 0.
//
// Safety: columns are clamped below n and rows below m for loads, and k runs below params.k in
// steps of 8, so loads stay inside x and weight; finish() is called for rows < m and columns
// < n only. sh_totals is written in full before the barrier in front of its reads.
#import fold
#import reduce_workgroup
#import matmul_params
#import weight8_f32
#import matmul_epilogue

const ROWS: u32 = 1u;
const COLS: u32 = 8u;
// One workgroup computes all rows of COLS columns.
const TILE_M: u32 = ROWS;
const TILE_N: u32 = COLS;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [batch, m, k / 4]

// Totals of the workgroup's columns, row by row.
var<workgroup> sh_totals: array<f32, ROWS * COLS>;

// Sums of one row of x: columns 0..4 and 4..8.
struct Sums {
    first: vec4<f32>,
    second: vec4<f32>,
}

fn row_start(sample: u32, row: u32) -> u32 {
    return (sample * params.m + min(row, params.m - 1u)) * (params.k / 4u);
}

// Eight k of four columns: column j of `low` holds the first four k of weight column j.
struct Columns {
    low: mat4x4<f32>,
    high: mat4x4<f32>,
}

fn load_columns(at: vec4<u32>) -> Columns {
    let a = load_weight8(at.x);
    let b = load_weight8(at.y);
    let c = load_weight8(at.z);
    let d = load_weight8(at.w);
    return Columns(mat4x4(a[0], b[0], c[0], d[0]), mat4x4(a[1], b[1], c[1], d[1]));
}

// Adds eight k of the row of x at `at`. A row vector times a matrix is a dot product per column.
fn multiply(sums: ptr<function, Sums>, at: u32, first: Columns, second: Columns) {
    let low = x[at];
    let high = x[at + 1u];
    (*sums).first += low * first.low + high * first.high;
    (*sums).second += low * second.low + high * second.high;
}

// Adds up the lanes' sums of a row. All lanes must call this together.
fn total(sums: Sums, row: u32, lane: u32) {
    let first = vec4(
        reduce_sum(sums.first.x, lane),
        reduce_sum(sums.first.y, lane),
        reduce_sum(sums.first.z, lane),
        reduce_sum(sums.first.w, lane),
    );
    let second = vec4(
        reduce_sum(sums.second.x, lane),
        reduce_sum(sums.second.y, lane),
        reduce_sum(sums.second.z, lane),
        reduce_sum(sums.second.w, lane),
    );
    if (lane == 0u) {
        for (var j = 0u; j < 4u; j++) {
            sh_totals[row * COLS + j] = first[j];
            sh_totals[row * COLS + 4u + j] = second[j];
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles_n = (params.n + COLS - 1u) / COLS;
    let tile = fold(workgroup, grid);
    let batch = tile / tiles_n;
    if (batch >= params.batch) {
        return;
    }
    let column = tile % tiles_n * COLS;
    let base = batch * params.w_batch_stride;
    let last = vec4(params.n - 1u);
    let w0 = base + min(column + vec4(0u, 1u, 2u, 3u), last) * params.k;
    let w1 = base + min(column + vec4(4u, 5u, 6u, 7u), last) * params.k;
    let sample = params.batch_offset + batch;
    let x0 = row_start(sample, 0u);
    let x1 = row_start(sample, 1u);
    let x2 = row_start(sample, 2u);
    let x3 = row_start(sample, 3u);
    let x4 = row_start(sample, 4u);
    let x5 = row_start(sample, 5u);
    let x6 = row_start(sample, 6u);
    let x7 = row_start(sample, 7u);
    var sums0: Sums;
    var sums1: Sums;
    var sums2: Sums;
    var sums3: Sums;
    var sums4: Sums;
    var sums5: Sums;
    var sums6: Sums;
    var sums7: Sums;
    for (var kk = 8u * lane; kk < params.k; kk += 8u * THREADS) {
        let i = kk / 4u;
        let first = load_columns(w0 + kk);
        let second = load_columns(w1 + kk);
        multiply(&sums0, x0 + i, first, second);
        if (ROWS > 1u) {
            multiply(&sums1, x1 + i, first, second);
        }
        if (ROWS > 2u) {
            multiply(&sums2, x2 + i, first, second);
        }
        if (ROWS > 3u) {
            multiply(&sums3, x3 + i, first, second);
        }
        if (ROWS > 4u) {
            multiply(&sums4, x4 + i, first, second);
        }
        if (ROWS > 5u) {
            multiply(&sums5, x5 + i, first, second);
        }
        if (ROWS > 6u) {
            multiply(&sums6, x6 + i, first, second);
        }
        if (ROWS > 7u) {
            multiply(&sums7, x7 + i, first, second);
        }
    }
    total(sums0, 0u, lane);
    if (ROWS > 1u) {
        total(sums1, 1u, lane);
    }
    if (ROWS > 2u) {
        total(sums2, 2u, lane);
    }
    if (ROWS > 3u) {
        total(sums3, 3u, lane);
    }
    if (ROWS > 4u) {
        total(sums4, 4u, lane);
    }
    if (ROWS > 5u) {
        total(sums5, 5u, lane);
    }
    if (ROWS > 6u) {
        total(sums6, 6u, lane);
    }
    if (ROWS > 7u) {
        total(sums7, 7u, lane);
    }
    workgroupBarrier(); // all totals are in place
    for (var i = lane; i < ROWS * COLS; i += THREADS) {
        let row = i / COLS;
        let c = column + i % COLS;
        if (row < params.m && c < params.n) {
            let index = (sample * params.m + row) * params.y_row_stride + params.n_offset + c;
            finish(index, params.n_offset + c, sh_totals[i]);
        }
    }
}
