// positions[b, t] = pad where ids[b, t] is the pad id, else pad + the number of tokens up to and
// with t that are not: positions that begin behind the pad id and leave padding out.
//
// ids, positions: [rows, cols]. One workgroup per row; a lane counts a run of neighbouring
// tokens, learns what the lanes before it counted, and walks its run again.
//
// Safety: a row is checked against `rows` and columns are below `cols`, so every index is below
// rows * cols. Every lane writes its slot of sh_count before the barrier.
#import fold

const THREADS: u32 = 64u;

struct Params {
    rows: u32,
    cols: u32,
    pad: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> ids: array<u32>;             // [rows, cols]
@group(0) @binding(1) var<storage, read_write> positions: array<u32>; // [rows, cols]

var<workgroup> sh_count: array<u32, THREADS>;

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
    let run = (params.cols + THREADS - 1u) / THREADS;
    let first = min(lane * run, params.cols);
    let end = min(first + run, params.cols);
    var count = 0u;
    for (var c = first; c < end; c++) {
        count += select(0u, 1u, ids[start + c] != params.pad);
    }
    sh_count[lane] = count;
    workgroupBarrier(); // every lane's count is in place
    var position = params.pad;
    for (var before = 0u; before < lane; before++) {
        position += sh_count[before];
    }
    for (var c = first; c < end; c++) {
        let real = ids[start + c] != params.pad;
        position += select(0u, 1u, real);
        positions[start + c] = select(params.pad, position, real);
    }
}
