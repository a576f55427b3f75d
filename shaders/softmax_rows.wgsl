// y = exp(x - max(x)) / sum(exp(x - max(x))) over each row, or its logarithm.
//
// x, y: [rows, COLS], COLS a multiple of 4. A workgroup is one subgroup; it walks
// rows_per_group rows, each held in registers. A row that is -inf throughout gives 0 (and
// -inf for the logarithm).
//
// Safety: rows run below `rows` and in_row bounds vectors by ROW_VECS, so every index is below
// rows * COLS / 4, the size of x and y; the register array is indexed below LANE_VECS, its
// length. No workgroup memory.
#import fold
#import elem_vec4
#import reduce_subgroup
#import row_registers
#import softmax_terms

const LOG: bool = false;

struct Params {
    rows: u32,
    cols: u32, // COLS
    rows_per_group: u32,
}
var<immediate> params: Params;

@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>; // [rows, COLS]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = fold(workgroup, grid) * params.rows_per_group;
    let end = min(first + params.rows_per_group, params.rows);
    // The row's values; for softmax overwritten by their terms, so that exp is taken once.
    var held: array<vec4<f32>, LANE_VECS>;
    for (var row = first; row < end; row++) {
        let start = row * ROW_VECS;

        var top = vec4(LOWEST);
        for (var k = 0u; k < LANE_VECS; k++) { // unroll
            let c = k * THREADS + lane;
            if (in_row(c)) {
                held[k] = x[start + c];
                top = max(top, candidate(held[k]));
            }
        }
        let largest = reduce_max(max_of(top), lane);

        var total = vec4(0.0);
        for (var k = 0u; k < LANE_VECS; k++) { // unroll
            if (in_row(k * THREADS + lane)) {
                let e = term(held[k], largest);
                total += e;
                if (!LOG) {
                    held[k] = e;
                }
            }
        }
        let sum = reduce_sum(sum_of(total), lane);

        let divisor = select(1.0, sum, sum > 0.0);
        let offset = log(divisor);
        for (var k = 0u; k < LANE_VECS; k++) { // unroll
            let c = k * THREADS + lane;
            if (in_row(c)) {
                let v = held[k];
                if (LOG) {
                    y[start + c] = select(v, v - largest - offset, live(v));
                } else {
                    y[start + c] = v / divisor;
                }
            }
        }
    }
}
