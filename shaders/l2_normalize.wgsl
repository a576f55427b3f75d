// y = x / max(|x|, eps) over each row.
//
// x, y: [rows, cols]. One workgroup per row; lane l takes columns l, l + THREADS, …
//
// Safety: the row is checked against rows, columns run below cols.
#import fold
#import reduce_workgroup

struct Params {
    rows: u32,
    cols: u32,
    eps: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;       // [rows, cols]
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [rows, cols]

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
    var squares = 0.0;
    for (var c = lane; c < params.cols; c += THREADS) {
        let v = x[start + c];
        squares += v * v;
    }
    let scale = 1.0 / max(sqrt(reduce_sum(squares, lane)), params.eps);
    for (var c = lane; c < params.cols; c += THREADS) {
        y[start + c] = x[start + c] * scale;
    }
}
