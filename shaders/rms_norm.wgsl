// y = h / sqrt(mean(h^2) + eps) * weight over each row, h = x + residual.
//
// x, residual, y: [rows, cols]; weight: [cols]. A workgroup walks rows_per_group rows; lane l
// takes Elems l, l + THREADS, ...
//
// Safety: rows run below `rows` and Elems of a row below cols / WIDTH, so every index is
// below rows * cols / WIDTH, the size of x, residual, sum and y, or below cols / WIDTH, the
// size of weight. reduce_workgroup writes its memory before it reads it.
#import fold
#import elem_f32
#import reduce_workgroup
#import norm_operands
#import sum_discard
#import store_f32

@group(0) @binding(3) var<storage, read_write> y: array<Stored>; // [rows, cols]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = rows_of(fold(workgroup, grid));
    let elems = params.cols / WIDTH;
    for (var row = rows.first; row < rows.end; row++) {
        let start = row * elems;

        var squares = Elem(0.0);
        for (var c = lane; c < elems; c += THREADS) {
            let h = load(start + c);
            store_sum(start + c, h);
            squares += h * h;
        }
        let mean = reduce_sum(sum_of(squares), lane) / f32(params.cols);
        let scale = inverseSqrt(mean + params.eps);

        for (var c = lane; c < elems; c += THREADS) {
            y[start + c] = stored(load(start + c) * scale * scale_at(c));
        }
    }
}
