// What the kernels of layer_norm and rms_norm share: the rows that a workgroup walks, what they read
// (h = x + residual), and a factor per column. Elem comes from elem_*; indices count Elems.
const HAS_RESIDUAL: bool = false;
const HAS_WEIGHT: bool = true;
const UNIT_OFFSET: bool = false;

struct Params {
    rows: u32,
    cols: u32,
    rows_per_group: u32,
    eps: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<Elem>;        // [rows, cols]
@group(0) @binding(1) var<storage, read> residual: array<Elem>; // [rows, cols]
@group(0) @binding(2) var<storage, read> weight: array<Elem>;   // [cols]

fn load(i: u32) -> Elem {
    if (HAS_RESIDUAL) {
        return x[i] + residual[i];
    }
    return x[i];
}

fn scale_at(c: u32) -> Elem {
    if (!HAS_WEIGHT) {
        return Elem(1.0);
    }
    if (UNIT_OFFSET) {
        return 1.0 + weight[c];
    }
    return weight[c];
}

struct Rows {
    first: u32,
    end: u32,
}

// The rows of a workgroup; none if it lies beyond the last row.
fn rows_of(group: u32) -> Rows {
    let first = group * params.rows_per_group;
    return Rows(first, min(first + params.rows_per_group, params.rows));
}
