// What follows the sum of a matmul: y = act(sum + bias) + residual; or, if GATED, with a gate in each
// even column and what it scales behind it, y = act(gate + bias) (up + bias), half as wide.
#import matmul_params
#import activation
#import store_f32

const HAS_BIAS: bool = false;
const HAS_RESIDUAL: bool = false;
const GATED: bool = false;

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

// Finishes element `index` of y from a gate in column `whole` of the whole product and what it scales.
fn finish_pair_at(index: u32, whole: u32, gate: f32, up: f32) {
    var pair = vec2(gate, up);
    if (HAS_BIAS) {
        pair += vec2(bias[whole], bias[whole + 1u]);
    }
    y[index] = stored(activate(pair.x) * pair.y);
}

// The same by row and column of the dispatch's product; both columns must exist.
fn finish_pair(sample: u32, row: u32, column: u32, gate: f32, up: f32) {
    let whole = params.n_offset + column;
    finish_pair_at((sample * params.m + row) * params.y_row_stride + whole / 2u, whole, gate, up);
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
    if (GATED) {
        for (var j = 0u; j < 4u; j += 2u) {
            if (column + j < params.n) {
                finish_pair(sample, row, column + j, sums[j], sums[j + 1u]);
            }
        }
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        if (column + j < params.n) {
            finish(sample, row, column + j, sums[j]);
        }
    }
}
