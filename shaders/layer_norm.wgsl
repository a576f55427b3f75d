// y = (h - mean(h)) / sqrt(var(h) + eps) * weight + bias over each row, h = x + residual.
//
// x, residual, y: [rows, cols]; weight, bias: [cols]. One workgroup per row; lane l takes
// columns l, l + THREADS, ... Two exact passes: the variance is taken around the mean.
//
// Safety: a row index is checked against `rows` before use and columns run below `cols`, so
// every index is below rows * cols, the size of x, residual and y, or below cols.
#import fold
#import reduce_workgroup
#import sum_discard

const HAS_RESIDUAL: bool = false;
const HAS_WEIGHT: bool = true;
const HAS_BIAS: bool = true;

struct Params {
    rows: u32,
    cols: u32,
    eps: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;         // [rows, cols]
@group(0) @binding(1) var<storage, read> residual: array<f32>;  // [rows, cols]
@group(0) @binding(2) var<storage, read> weight: array<f32>;    // [cols]
@group(0) @binding(3) var<storage, read> bias: array<f32>;      // [cols]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;   // [rows, cols]

fn load(i: u32) -> f32 {
    if (HAS_RESIDUAL) {
        return x[i] + residual[i];
    }
    return x[i];
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = fold(workgroup, grid);
    if (row >= params.rows) {
        return;
    }
    let start = row * params.cols;
    let n = f32(params.cols);

    var total = 0.0;
    for (var c = lane; c < params.cols; c += THREADS) {
        let h = load(start + c);
        store_sum(start + c, h);
        total += h;
    }
    let mean = reduce_sum(total, lane) / n;

    var squares = 0.0;
    for (var c = lane; c < params.cols; c += THREADS) {
        let d = load(start + c) - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(reduce_sum(squares, lane) / n + params.eps);

    for (var c = lane; c < params.cols; c += THREADS) {
        var out = (load(start + c) - mean) * scale;
        if (HAS_WEIGHT) {
            out *= weight[c];
        }
        if (HAS_BIAS) {
            out += bias[c];
        }
        y[start + c] = out;
    }
}
