// What layer_norm and rms_norm read: h = x + residual, and a factor per column.
// Elem comes from elem_*; indices count Elems.
const HAS_RESIDUAL: bool = false;
const HAS_WEIGHT: bool = true;
const UNIT_OFFSET: bool = false;

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
