// What follows the sum of a matmul: y = act(sum + bias) + residual.
#import activation

const HAS_BIAS: bool = false;
const HAS_RESIDUAL: bool = false;

@group(0) @binding(2) var<storage, read> bias: array<f32>;      // [total n]
@group(0) @binding(3) var<storage, read> residual: array<f32>;  // as y
@group(0) @binding(4) var<storage, read_write> y: array<f32>;   // [batch, m, total n]

// Finishes the element of y at `index`, whose column (of the whole y) is `column`.
fn finish(index: u32, column: u32, sum: f32) {
    var out = sum;
    if (HAS_BIAS) {
        out += bias[column];
    }
    out = activate(out);
    if (HAS_RESIDUAL) {
        out += residual[index];
    }
    y[index] = out;
}
