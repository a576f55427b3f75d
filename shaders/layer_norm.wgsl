// y = (h - mean(h)) / sqrt(var(h) + eps) * weight + bias over each row, h = x + residual.
//
// x, residual, y: [rows, cols]; weight, bias: [cols]. A workgroup walks rows_per_group rows;
// lane l takes Elems l, l + THREADS, ... Two exact passes: the variance is taken around the
// mean.
//
// Safety: rows run below `rows` and Elems of a row below cols / WIDTH, so every index is
// below rows * cols / WIDTH, the size of x, residual, sum and y, or below cols / WIDTH, the
// size of weight and bias. reduce_workgroup writes its memory before it reads it.
#import fold
#import elem_f32
#import reduce_workgroup
#import norm_operands
#import sum_discard
#import store_f32

const HAS_BIAS: bool = true;

@group(0) @binding(3) var<storage, read> bias: array<Elem>;    // [cols]
@group(0) @binding(4) var<storage, read_write> y: array<Stored>; // [rows, cols]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = rows_of(fold(workgroup, grid));
    let elems = params.cols / WIDTH;
    let n = f32(params.cols);
    for (var row = rows.first; row < rows.end; row++) {
        let start = row * elems;

        var total = Elem(0.0);
        for (var c = lane; c < elems; c += THREADS) {
            let h = load(start + c);
            store_sum(start + c, h);
            total += h;
        }
        let mean = reduce_sum(sum_of(total), lane) / n;

        var squares = Elem(0.0);
        for (var c = lane; c < elems; c += THREADS) {
            let d = load(start + c) - mean;
            squares += d * d;
        }
        let scale = inverseSqrt(reduce_sum(sum_of(squares), lane) / n + params.eps);

        for (var c = lane; c < elems; c += THREADS) {
            var out = (load(start + c) - mean) * scale * scale_at(c);
            if (HAS_BIAS) {
                out += bias[c];
            }
            y[start + c] = stored(out);
        }
    }
}
