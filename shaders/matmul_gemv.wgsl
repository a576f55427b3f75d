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
#import x_f32
#import weight8_f32
#import matmul_epilogue

const ROWS: u32 = 1u;
const COLS: u32 = 8u;
// One workgroup computes all rows of COLS columns.
const TILE_M: u32 = ROWS;
const TILE_N: u32 = COLS;

// Totals of columns 4h .. 4h + 4 of row r, at 2r + h.
var<workgroup> sh_totals: array<vec4<f32>, 2u * ROWS>;

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
    var x_at: array<u32, ROWS>;
    for (var r = 0u; r < ROWS; r++) { // unroll
        x_at[r] = row_start(sample, r);
    }

    // The lane's part of the totals.
    var sums: array<vec4<f32>, 2u * ROWS>;
    for (var kk = 8u * lane; kk < params.k; kk += 8u * THREADS) {
        let first = load_columns(w0 + kk);
        let second = load_columns(w1 + kk);
        for (var r = 0u; r < ROWS; r++) { // unroll
            // A row vector times a matrix is a dot product per column.
            let low = load_x4(x_at[r] + kk / 4u);
            let high = load_x4(x_at[r] + kk / 4u + 1u);
            sums[2u * r] += low * first.low + high * first.high;
            sums[2u * r + 1u] += low * second.low + high * second.high;
        }
    }
    for (var n = 0u; n < 2u * ROWS; n++) { // unroll
        let total = vec4(
            reduce_sum(sums[n].x, lane),
            reduce_sum(sums[n].y, lane),
            reduce_sum(sums[n].z, lane),
            reduce_sum(sums[n].w, lane),
        );
        if (lane == 0u) {
            sh_totals[n] = total;
        }
    }
    workgroupBarrier(); // all totals are in place
    for (var i = lane; i < ROWS * COLS; i += THREADS) {
        let row = i / COLS;
        let c = column + i % COLS;
        if (row < params.m && c < params.n) {
            if (!GATED) {
                finish(sample, row, c, sh_totals[i / 4u][i % 4u]);
            } else if (c % 2u == 0u) {
                finish_pair(sample, row, c, sh_totals[i / 4u][i % 4u], sh_totals[i / 4u][i % 4u + 1u]);
            }
        }
    }
}
