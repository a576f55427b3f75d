// y = exp(x - max(x)) / sum(exp(x - max(x))) over each row, or its logarithm.
//
// x, y: [rows, cols]. A workgroup walks rows_per_group rows; lane l takes Elems l,
// l + THREADS, ... A row that is -inf throughout gives 0 (and -inf for the logarithm).
//
// Safety: rows run below `rows` and Elems of a row below cols / WIDTH, so every index is
// below rows * cols / WIDTH, the size of x and y. reduce_workgroup writes its memory before
// it reads it.
#import fold
#import elem_f32
#import reduce_workgroup
#import softmax_terms

const LOG: bool = false;

struct Params {
    rows: u32,
    cols: u32,
    rows_per_group: u32,
}
var<immediate> params: Params;

@group(0) @binding(1) var<storage, read_write> y: array<Elem>; // [rows, cols]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = fold(workgroup, grid) * params.rows_per_group;
    let end = min(first + params.rows_per_group, params.rows);
    let elems = params.cols / WIDTH;
    for (var row = first; row < end; row++) {
        let start = row * elems;

        var top = Elem(LOWEST);
        for (var c = lane; c < elems; c += THREADS) {
            top = max(top, candidate(x[start + c]));
        }
        let largest = reduce_max(max_of(top), lane);

        var total = Elem(0.0);
        for (var c = lane; c < elems; c += THREADS) {
            total += term(x[start + c], largest);
        }
        let sum = reduce_sum(sum_of(total), lane);

        let divisor = select(1.0, sum, sum > 0.0);
        let offset = log(divisor);
        for (var c = lane; c < elems; c += THREADS) {
            let v = x[start + c];
            if (LOG) {
                y[start + c] = select(v, v - largest - offset, live(v));
            } else {
                y[start + c] = term(v, largest) / divisor;
            }
        }
    }
}
