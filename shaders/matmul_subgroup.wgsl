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
#import weight_f32
#import matmul_epilogue

const SUBGROUP: u32 = 8u;
const ROW_BLOCKS: u32 = 5u;
const W_TRANSPOSED: bool = true;
const TILE_M: u32 = 8u * ROW_BLOCKS;
const TILE_N: u32 = 8u * SUBGROUP;
// Columns of one half of the tile.
const HALF_N: u32 = 4u * SUBGROUP;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [batch, m, k / 4]

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

// Sums of a block's rows: [2r] is row r in the first half of the columns, [2r + 1] in the second.
alias Sums = array<vec4<f32>, 16>;

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
    let low = x[at.x];
    if (SUBGROUP < 8u) {
        return Rows(low, x[at.y]);
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

// Adds four k to the sums of a block: unrolled, so that the sums stay registers.
fn multiply(sums: ptr<function, Sums>, rows: Rows, first: mat4x4<f32>, second: mat4x4<f32>) {
    let row0 = row_of(rows, 0u);
    (*sums)[0] += first * row0;
    (*sums)[1] += second * row0;
    let row1 = row_of(rows, 1u);
    (*sums)[2] += first * row1;
    (*sums)[3] += second * row1;
    let row2 = row_of(rows, 2u);
    (*sums)[4] += first * row2;
    (*sums)[5] += second * row2;
    let row3 = row_of(rows, 3u);
    (*sums)[6] += first * row3;
    (*sums)[7] += second * row3;
    let row4 = row_of(rows, 4u);
    (*sums)[8] += first * row4;
    (*sums)[9] += second * row4;
    let row5 = row_of(rows, 5u);
    (*sums)[10] += first * row5;
    (*sums)[11] += second * row5;
    let row6 = row_of(rows, 6u);
    (*sums)[12] += first * row6;
    (*sums)[13] += second * row6;
    let row7 = row_of(rows, 7u);
    (*sums)[14] += first * row7;
    (*sums)[15] += second * row7;
}

// Keeps a block's sums for the epilogue.
fn keep(sums: Sums, at: u32) {
    sh_sums[at + 0u * SUBGROUP] = sums[0];
    sh_sums[at + 1u * SUBGROUP] = sums[1];
    sh_sums[at + 2u * SUBGROUP] = sums[2];
    sh_sums[at + 3u * SUBGROUP] = sums[3];
    sh_sums[at + 4u * SUBGROUP] = sums[4];
    sh_sums[at + 5u * SUBGROUP] = sums[5];
    sh_sums[at + 6u * SUBGROUP] = sums[6];
    sh_sums[at + 7u * SUBGROUP] = sums[7];
    sh_sums[at + 8u * SUBGROUP] = sums[8];
    sh_sums[at + 9u * SUBGROUP] = sums[9];
    sh_sums[at + 10u * SUBGROUP] = sums[10];
    sh_sums[at + 11u * SUBGROUP] = sums[11];
    sh_sums[at + 12u * SUBGROUP] = sums[12];
    sh_sums[at + 13u * SUBGROUP] = sums[13];
    sh_sums[at + 14u * SUBGROUP] = sums[14];
    sh_sums[at + 15u * SUBGROUP] = sums[15];
}

// Finishes four columns of row `row` from `column` on.
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
    let x0 = block_start(sample, row, lane);
    let x1 = block_start(sample, row + 8u, lane);
    let x2 = block_start(sample, row + 16u, lane);
    let x3 = block_start(sample, row + 24u, lane);
    let x4 = block_start(sample, row + 32u, lane);
    var sums0: Sums;
    var sums1: Sums;
    var sums2: Sums;
    var sums3: Sums;
    var sums4: Sums;
    for (var kk = 0u; kk < params.k; kk += 4u) {
        let i = kk / 4u;
        let first = load_weights(w0 + kk * w_step);
        let second = load_weights(w1 + kk * w_step);
        multiply(&sums0, load_rows(x0 + i), first, second);
        if (ROW_BLOCKS > 1u) {
            multiply(&sums1, load_rows(x1 + i), first, second);
        }
        if (ROW_BLOCKS > 2u) {
            multiply(&sums2, load_rows(x2 + i), first, second);
        }
        if (ROW_BLOCKS > 3u) {
            multiply(&sums3, load_rows(x3 + i), first, second);
        }
        if (ROW_BLOCKS > 4u) {
            multiply(&sums4, load_rows(x4 + i), first, second);
        }
    }
    keep(sums0, lane);
    if (ROW_BLOCKS > 1u) {
        keep(sums1, 16u * SUBGROUP + lane);
    }
    if (ROW_BLOCKS > 2u) {
        keep(sums2, 32u * SUBGROUP + lane);
    }
    if (ROW_BLOCKS > 3u) {
        keep(sums3, 48u * SUBGROUP + lane);
    }
    if (ROW_BLOCKS > 4u) {
        keep(sums4, 64u * SUBGROUP + lane);
    }
    for (var r = 0u; r < TILE_M; r++) {
        finish_four(sample, row + r, column, sh_sums[2u * r * SUBGROUP + lane]);
        finish_four(sample, row + r, column + HALF_N, sh_sums[(2u * r + 1u) * SUBGROUP + lane]);
    }
}
