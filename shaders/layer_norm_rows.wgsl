// y = (h - mean(h)) / sqrt(var(h) + eps) * weight + bias over each row, h = x + residual.
//
// x, residual, y: [rows, COLS]; weight, bias: [COLS], COLS a multiple of 4. A workgroup is one
// subgroup; it walks rows_per_group rows, each held in registers between the two exact passes.
//
// Safety: rows run below `rows` and in_row bounds vectors by ROW_VECS, so every index is below
// rows * COLS / 4, the size of x, residual, sum and y, or below COLS / 4, the size of weight
// and bias; register arrays are indexed below LANE_VECS, their length. No workgroup memory.
#import fold
#import elem_vec4
#import reduce_subgroup
#import row_registers
#import norm_operands
#import sum_discard
#import store_f32

const HAS_BIAS: bool = true;

@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;    // [COLS]
@group(0) @binding(4) var<storage, read_write> y: array<Stored>; // [rows, COLS]

fn bias_at(c: u32) -> vec4<f32> {
    if (HAS_BIAS) {
        return bias[c];
    }
    return vec4(0.0);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    var scales: array<vec4<f32>, LANE_VECS>;
    var biases: array<vec4<f32>, LANE_VECS>;
    if (KEEP_COLUMNS) {
        for (var k = 0u; k < LANE_VECS; k++) { // unroll
            let c = k * THREADS + lane;
            if (in_row(c)) {
                scales[k] = scale_at(c);
                biases[k] = bias_at(c);
            }
        }
    }

    let rows = rows_of(fold(workgroup, grid));
    let n = f32(COLS);
    var h: array<vec4<f32>, LANE_VECS>;
    for (var row = rows.first; row < rows.end; row++) {
        let start = row * ROW_VECS;

        var total = vec4(0.0);
        for (var k = 0u; k < LANE_VECS; k++) { // unroll
            let c = k * THREADS + lane;
            if (in_row(c)) {
                let v = load(start + c);
                store_sum(start + c, v);
                h[k] = v;
                total += v;
            }
        }
        let mean = reduce_sum(sum_of(total), lane) / n;

        var squares = vec4(0.0);
        for (var k = 0u; k < LANE_VECS; k++) { // unroll
            if (in_row(k * THREADS + lane)) {
                let d = h[k] - mean;
                squares += d * d;
            }
        }
        let scale = inverseSqrt(reduce_sum(sum_of(squares), lane) / n + params.eps);

        for (var k = 0u; k < LANE_VECS; k++) { // unroll
            let c = k * THREADS + lane;
            if (in_row(c)) {
                var s = scales[k];
                var b = biases[k];
                if (!KEEP_COLUMNS) {
                    s = scale_at(c);
                    b = bias_at(c);
                }
                y[start + c] = stored((h[k] - mean) * scale * s + b);
            }
        }
    }
}
