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
#import stage_tile
#import matmul_epilogue

const X_TRANSPOSED: bool = false;
const W_TRANSPOSED: bool = true;
const TILE_M: u32 = 64u;
const TILE_N: u32 = 64u;

const THREADS_M: u32 = TILE_M / 8u;
const THREADS_N: u32 = TILE_N / 8u;
const THREADS: u32 = THREADS_M * THREADS_N;
// Quads of x and of the weight that one invocation stages per slab.
const X_QUADS: u32 = TILE_M * TILE_K / 4u / THREADS;
const W_QUADS: u32 = TILE_N * TILE_K / 4u / THREADS;

// The slab of x, then that of the weight.
const W_SLAB: u32 = TILE_K * TILE_M / 4u;
const SLAB_QUADS: u32 = W_SLAB + TILE_K * TILE_N / 4u;

fn fetch_x(base: u32, row0: u32, k0: u32, q: u32) -> vec4<f32> {
    let at = vec2(row0, k0) + quad_place(q, TILE_M, X_TRANSPOSED);
    let from_x = quad_source(at, params.m, params.k, X_TRANSPOSED);
    return x_quad(base + from_x.x, from_x.y);
}

fn fetch_weight(base: u32, column0: u32, k0: u32, q: u32) -> vec4<f32> {
    let at = vec2(column0, k0) + quad_place(q, TILE_N, !W_TRANSPOSED);
    let from_w = quad_source(at, params.n, params.k, !W_TRANSPOSED);
    return weight_quad(base + from_w.x, from_w.y);
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
    for (var i = 0u; i < X_QUADS; i++) { // unroll
        x_next[i] = fetch_x(x_base, row0, 0u, thread + i * THREADS);
    }
    for (var i = 0u; i < W_QUADS; i++) { // unroll
        w_next[i] = fetch_weight(w_base, column0, 0u, thread + i * THREADS);
    }
    // Row r of group g of the rows, half h of the columns, at 8 g + 2 r + h.
    var sums: array<vec4<f32>, 16>;
    for (var k0 = 0u; k0 < params.k; k0 += TILE_K) {
        for (var i = 0u; i < X_QUADS; i++) { // unroll
            stage(0u, TILE_M, X_TRANSPOSED, thread + i * THREADS, x_next[i]);
        }
        for (var i = 0u; i < W_QUADS; i++) { // unroll
            stage(W_SLAB, TILE_N, !W_TRANSPOSED, thread + i * THREADS, w_next[i]);
        }
        workgroupBarrier(); // the slab is in place
        for (var i = 0u; i < X_QUADS; i++) { // unroll
            x_next[i] = fetch_x(x_base, row0, k0 + TILE_K, thread + i * THREADS);
        }
        for (var i = 0u; i < W_QUADS; i++) { // unroll
            w_next[i] = fetch_weight(w_base, column0, k0 + TILE_K, thread + i * THREADS);
        }
        for (var pair = 0u; pair < TILE_K; pair += 2u) {
            for (var j = 0u; j < 2u; j++) { // unroll
                let k = pair + j;
                let w_at = W_SLAB + k * (TILE_N / 4u) + column_quad;
                let first = sh_slab[w_at];
                let second = sh_slab[w_at + THREADS_N];
                for (var g = 0u; g < 2u; g++) { // unroll
                    let rows = sh_slab[k * (TILE_M / 4u) + row_quad + g * THREADS_M];
                    for (var r = 0u; r < 4u; r++) { // unroll
                        sums[8u * g + 2u * r] += rows[r] * first;
                        sums[8u * g + 2u * r + 1u] += rows[r] * second;
                    }
                }
            }
        }
        workgroupBarrier(); // everyone has read the slab before it is overwritten
    }
    // A copy, since the epilogue is too long to unroll and what a variable indexes is no register.
    var done = sums;
    let row = row0 + 4u * row_quad;
    let column = column0 + 4u * column_quad;
    for (var n = 0u; n < 16u; n++) {
        let r = row + n / 8u * (TILE_M / 2u) + n % 8u / 2u;
        finish_four(sample, r, column + n % 2u * (TILE_N / 2u), done[n]);
    }
}
