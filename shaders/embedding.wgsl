// y[r] = scale * table[ids[r]] + positions[p] + segments[segment_ids[r]], r = a token of a
// sequence, p = its position.
//
// table: [.., cols], of which this dispatch holds rows first_id .. first_id + n_ids; a token
// of another part is left to that part's dispatch. ids, position_ids, segment_ids: [rows];
// positions: [n_positions, cols]; segments: [n_segments, cols]; y: [rows, cols].
// One workgroup per token; lane l takes columns l, l + 64, …
//
// Safety: r < rows is checked; ids outside the part are skipped; positions and segment ids are
// clamped to their tables; columns stay below cols.
#import fold
#import table_f32

const HAS_POSITIONS: bool = false;
const HAS_POSITION_IDS: bool = false;
const HAS_SEGMENTS: bool = false;

struct Params {
    rows: u32,
    cols: u32,
    tokens: u32,
    offset: u32,
    first_id: u32,
    n_ids: u32,
    n_positions: u32,
    n_segments: u32,
    scale: f32,
}
var<immediate> params: Params;

@group(0) @binding(3) var<storage, read> ids: array<u32>;          // [rows]
@group(0) @binding(4) var<storage, read> position_ids: array<u32>; // [rows]
@group(0) @binding(5) var<storage, read> segment_ids: array<u32>;  // [rows]
@group(0) @binding(6) var<storage, read_write> y: array<f32>;      // [rows, cols]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = fold(workgroup, grid);
    if (row >= params.rows) {
        return;
    }
    let id = ids[row];
    // Wraps for ids below the part, so one comparison covers both ends.
    if (id - params.first_id >= params.n_ids) {
        return;
    }
    let word = (id - params.first_id) * params.cols;
    var position = 0u;
    if (HAS_POSITIONS) {
        position = row % params.tokens + params.offset;
        if (HAS_POSITION_IDS) {
            position = position_ids[row];
        }
        position = min(position, params.n_positions - 1u) * params.cols;
    }
    var segment = 0u;
    if (HAS_SEGMENTS) {
        segment = min(segment_ids[row], params.n_segments - 1u) * params.cols;
    }
    for (var c = lane; c < params.cols; c += 64u) {
        var sum = params.scale * table_at(word + c);
        if (HAS_POSITIONS) {
            sum += positions_at(position + c);
        }
        if (HAS_SEGMENTS) {
            sum += segments_at(segment + c);
        }
        y[row * params.cols + c] = sum;
    }
}
