// loss = log(sum(exp(x))) - (1 - smoothing) x[target] - smoothing mean(x) over each row; 0 for
// a row whose target is the ignored one.
//
// x: [rows, cols]; targets, loss: [rows]. A workgroup walks rows_per_group rows; lane l takes
// columns l, l + THREADS, ...
//
// Safety: rows run below `rows`, columns below `cols` and a target is clamped to cols - 1, so
// every index is below rows * cols, the size of x, or below rows. reduce_workgroup writes its
// memory before it reads it.
#import fold
#import elem_f32
#import reduce_workgroup
#import softmax_terms

const SMOOTHED: bool = false;

struct Params {
    rows: u32,
    cols: u32,
    rows_per_group: u32,
    ignored: u32,
    smoothing: f32,
}
var<immediate> params: Params;

@group(0) @binding(1) var<storage, read> targets: array<u32>;    // [rows]
@group(0) @binding(2) var<storage, read_write> loss: array<f32>; // [rows]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = fold(workgroup, grid) * params.rows_per_group;
    let end = min(first + params.rows_per_group, params.rows);
    for (var row = first; row < end; row++) {
        let start = row * params.cols;

        var top = LOWEST;
        for (var c = lane; c < params.cols; c += THREADS) {
            top = max(top, candidate(x[start + c]));
        }
        let largest = reduce_max(top, lane);

        var exponentials = 0.0;
        var shifted = 0.0; // sum of x - largest
        for (var c = lane; c < params.cols; c += THREADS) {
            let v = x[start + c];
            exponentials += term(v, largest);
            shifted += v - largest;
        }
        let log_sum = log(reduce_sum(exponentials, lane));
        var mean = 0.0;
        if (SMOOTHED) {
            mean = reduce_sum(shifted, lane) / f32(params.cols);
        }

        let wanted = targets[row];
        let taken = x[start + min(wanted, params.cols - 1u)] - largest;
        let value = log_sum - (1.0 - params.smoothing) * taken - params.smoothing * mean;
        if (lane == 0u) {
            loss[row] = select(value, 0.0, wanted == params.ignored);
        }
    }
}
