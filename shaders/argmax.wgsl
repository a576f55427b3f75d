// index = the first column that holds the row's largest value.
//
// x: [rows, cols]; index: [rows]. One workgroup per row; lane l takes columns l, l + THREADS,
// ... in rising order, then the lanes' winners meet in a fixed tree.
//
// Safety: a row is checked against `rows` before use and columns are below `cols`, so every
// index is below rows * cols, the size of x, or below rows. Every lane writes its slots of
// sh_value and sh_column before the first barrier.
#import fold

const THREADS: u32 = 64u;

struct Params {
    rows: u32,
    cols: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;           // [rows, cols]
@group(0) @binding(1) var<storage, read_write> index: array<u32>; // [rows]

var<workgroup> sh_value: array<f32, THREADS>;
var<workgroup> sh_column: array<u32, THREADS>;

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
    sh_value[lane] = value;
    sh_column[lane] = column;
    workgroupBarrier(); // every lane's winner is in place
    for (var width = THREADS / 2u; width > 0u; width /= 2u) {
        if (lane < width) {
            let v = sh_value[lane + width];
            let c = sh_column[lane + width];
            if (v > sh_value[lane] || (v == sh_value[lane] && c < sh_column[lane])) {
                sh_value[lane] = v;
                sh_column[lane] = c;
            }
        }
        workgroupBarrier(); // this level is complete before the next reads it
    }
    if (lane == 0u) {
        index[row] = sh_column[0];
    }
}
