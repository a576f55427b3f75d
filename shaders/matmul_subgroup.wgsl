// y = act(x weight + bias) + residual by register tiles fed with subgroup shuffles.
//
// x: [batch, m, k]; weight: [n, k] (W_TRANSPOSED) or [k, n], optionally per batch; y: [batch, m, n].
// One subgroup per workgroup computes TILE_M = 8 * ROW_BLOCKS rows by TILE_N = 8 * SUBGROUP
// columns. Lane l owns columns 4l .. 4l + 4 of each half of the tile and keeps all rows of
// them in registers. Per step of four k, lane l reads row l % 8 of each block of eight rows;
// a shuffle from a constant lane gives that row to all columns. No workgroup memory, no
// barrier: on a CPU driver a shuffle costs one instruction and a load from an address that
// differs by lane costs a loop over lanes, so loads per multiply decide.
// Requires k % 4 == 0, and n % 4 == 0 unless W_TRANSPOSED. SUBGROUP: any size from 4.
//
// Safety: row, column and batch indices used for loads are clamped below m, n and batch, and
// k runs below params.k in steps of 4, so loads stay inside x and weight; stores, bias and
// residual are guarded by row < m and column < n.
#import fold
#import matmul_params
#import x_f32
#import weight_f32
#import matmul_epilogue

const SUBGROUP: u32 = 8u;
const ROW_BLOCKS: u32 = 5u;
const W_TRANSPOSED: bool = true;
const TILE_M: u32 = 8u * ROW_BLOCKS;
const TILE_N: u32 = 8u * SUBGROUP;
// Columns of one half of the tile.
const HALF_N: u32 = 4u * SUBGROUP;

// Four k of the eight rows of a block: row r in every lane l with l % 8 == r. `high` serves
// subgroups of four lanes, which hold rows 4..8 there.
struct Rows {
    low: vec4<f32>,
    high: vec4<f32>,
}

// The tile on its way to the epilogue: half h of row r of lane l at (2r + h) * SUBGROUP + l. Each
// lane reads what it wrote itself, so no barrier is needed. (Registers cannot be indexed by a
// variable, and unrolling the epilogue takes drivers seconds to compile.)
var<workgroup> sh_sums: array<vec4<f32>, 2u * TILE_M * SUBGROUP>;

fn row_start(sample: u32, row: u32) -> u32 {
    return (sample * params.m + min(row, params.m - 1u)) * (params.k / 4u);
}

// Offsets, in vec4s of x, of the rows that this lane reads for a block.
fn block_start(sample: u32, row: u32, lane: u32) -> vec2<u32> {
    if (SUBGROUP < 8u) {
        return vec2(row_start(sample, row + lane), row_start(sample, row + 4u + lane));
    }
    return vec2(row_start(sample, row + lane % 8u));
}

fn load_rows(at: vec2<u32>) -> Rows {
    let low = load_x4(at.x);
    if (SUBGROUP < 8u) {
        return Rows(low, load_x4(at.y));
    }
    return Rows(low, low);
}

// Row r of a block, in all lanes.
fn row_of(rows: Rows, r: u32) -> vec4<f32> {
    if (SUBGROUP < 8u && r >= 4u) {
        return subgroupShuffle(rows.high, r - 4u);
    }
    return subgroupShuffle(rows.low, r);
}

// Where this lane's four columns start: by column if W_TRANSPOSED, else by k.
fn weight_start(base: u32, column: u32) -> vec4<u32> {
    let four = vec4(0u, 1u, 2u, 3u);
    if (W_TRANSPOSED) {
        return base + min(column + four, vec4(params.n - 1u)) * params.k;
    }
    return base + min(column, params.n - 4u) + four * params.n;
}

// The 4 x 4 weights that take four k to this lane's four columns.
fn load_weights(at: vec4<u32>) -> mat4x4<f32> {
    let w = mat4x4(load_weight4(at.x), load_weight4(at.y), load_weight4(at.z), load_weight4(at.w));
    if (W_TRANSPOSED) {
        return transpose(w);
    }
    return w;
}

@compute @workgroup_size(SUBGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let tiles_m = (params.m + TILE_M - 1u) / TILE_M;
    let tiles_n = (params.n + TILE_N - 1u) / TILE_N;
    let tile = fold(workgroup, grid);
    let batch = tile / (tiles_m * tiles_n);
    if (batch >= params.batch) {
        return;
    }
    let row = (tile / tiles_n) % tiles_m * TILE_M;
    let column = tile % tiles_n * TILE_N + 4u * lane;

    let w0 = weight_start(batch * params.w_batch_stride, column);
    let w1 = weight_start(batch * params.w_batch_stride, column + HALF_N);
    let w_step = select(params.n, 1u, W_TRANSPOSED);
    let sample = params.batch_offset + batch;
    var x_at: array<vec2<u32>, ROW_BLOCKS>;
    for (var b = 0u; b < ROW_BLOCKS; b++) { // unroll
        x_at[b] = block_start(sample, row + 8u * b, lane);
    }

    // Half h of row r of the tile at 2r + h.
    var sums: array<vec4<f32>, 2u * TILE_M>;
    for (var kk = 0u; kk < params.k; kk += 4u) {
        let first = load_weights(w0 + kk * w_step);
        let second = load_weights(w1 + kk * w_step);
        for (var b = 0u; b < ROW_BLOCKS; b++) { // unroll
            let rows = load_rows(x_at[b] + kk / 4u);
            for (var r = 0u; r < 8u; r++) { // unroll
                let four = row_of(rows, r);
                sums[2u * (8u * b + r)] += first * four;
                sums[2u * (8u * b + r) + 1u] += second * four;
            }
        }
    }
    for (var n = 0u; n < 2u * TILE_M; n++) { // unroll
        sh_sums[n * SUBGROUP + lane] = sums[n];
    }
    for (var r = 0u; r < TILE_M; r++) {
        finish_four(sample, row + r, column, sh_sums[2u * r * SUBGROUP + lane]);
        finish_four(sample, row + r, column + HALF_N, sh_sums[(2u * r + 1u) * SUBGROUP + lane]);
    }
}
