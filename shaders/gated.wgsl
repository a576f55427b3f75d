// y = activate(gate) * up, element by element: SwiGLU, GEGLU, ReGLU.
//
// y: [rows, cols]; gate, up: the same, or under PACKED gate is [rows, 2 cols] with each row's
// gate half first and `up` is not read. Invocation i takes element i of y.
//
// Safety: an element is checked against `count`, the size of y, before use; gate and up are as
// large, or gate is twice as large and indexed below 2 cols within row i / cols.
#import fold
#import activation
#import store_f32

const PACKED: bool = false;

struct Params {
    count: u32,
    cols: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> gate: array<f32>;    // [rows, cols] or [rows, 2 cols]
@group(0) @binding(1) var<storage, read> up: array<f32>;      // [rows, cols]
@group(0) @binding(2) var<storage, read_write> y: array<Stored>; // [rows, cols]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i >= params.count) {
        return;
    }
    if (PACKED) {
        // Element i of row r is column i - r cols: 2 r cols + that column = i + r cols.
        let at = i + i / params.cols * params.cols;
        y[i] = stored(activate(gate[at]) * gate[at + params.cols]);
    } else {
        y[i] = stored(activate(gate[i]) * up[i]);
    }
}
