// index = the first column that holds the row's largest value.
//
// x: [rows, cols]; index: [rows]. One workgroup per row; lane l takes columns l, l + THREADS,
// ... in rising order, then the lanes' winners meet in a fixed tree.
//
// Safety: a row is checked against `rows` before use and columns are below `cols`, so every
// index is below rows * cols, the size of x, or below rows. winner() writes its
// memory before it reads it.
#import fold
#import winner

struct Params {
    rows: u32,
    cols: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;           // [rows, cols]
@group(0) @binding(1) var<storage, read_write> index: array<u32>; // [rows]

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
    // A lane beyond the row's end repeats the last column, which changes nothing.
    var column = min(lane, params.cols - 1u);
    var value = x[start + column];
    for (var c = lane + THREADS; c < params.cols; c += THREADS) {
        let v = x[start + c];
        if (v > value) {
            value = v;
            column = c;
        }
    }
    let best = winner(value, column, lane);
    if (lane == 0u) {
        index[row] = best;
    }
}
