// What follows the sum of a matmul: y = act(sum + bias) + residual.
#import matmul_params
#import activation
#import store_f32

const HAS_BIAS: bool = false;
const HAS_RESIDUAL: bool = false;

@group(0) @binding(2) var<storage, read> bias: array<f32>;       // [total n]
@group(0) @binding(3) var<storage, read> residual: array<f32>;   // as y
@group(0) @binding(4) var<storage, read_write> y: array<Stored>; // [batch, m, total n]

// Finishes element `index` of y, in column `whole` of the whole of it; both must exist.
fn finish_at(index: u32, whole: u32, sum: f32) {
    var out = sum;
    if (HAS_BIAS) {
        out += bias[whole];
    }
    out = activate(out);
    if (HAS_RESIDUAL) {
        out += residual[index];
    }
    y[index] = stored(out);
}

// Finishes the element of row `row` and column `column` of the dispatch's y, which must exist.
fn finish(sample: u32, row: u32, column: u32, sum: f32) {
    let whole = params.n_offset + column;
    finish_at((sample * params.m + row) * params.y_row_stride + whole, whole, sum);
}

// Finishes those of four columns from `column` on that exist.
fn finish_four(sample: u32, row: u32, column: u32, sums: vec4<f32>) {
    if (row >= params.m) {
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        if (column + j < params.n) {
            finish(sample, row, column + j, sums[j]);
        }
    }
}
