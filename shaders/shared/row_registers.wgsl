// A row of COLS values held by one subgroup of THREADS lanes: vector k of lane l is vector
// k * THREADS + l of the row. THREADS comes from reduce_subgroup.
const COLS: u32 = 768u;
const ROW_VECS: u32 = COLS / 4u;
const LANE_VECS: u32 = (ROW_VECS + THREADS - 1u) / THREADS;
const EXACT: bool = ROW_VECS % THREADS == 0u;
// Whether per-column operands are read once and kept for all rows of the workgroup.
const KEEP_COLUMNS: bool = true;

// Whether the row has a vector `c`: in the last round some lanes may be beyond its end.
fn in_row(c: u32) -> bool {
    return EXACT || c < ROW_VECS;
}
