// How the SLOTS teams of a workgroup, whatever its subgroups, add up their weighted values.
// Same functions as attention_join_subgroup. ROWS, TEAM, SLOTS and JOIN_VECTORS come from
// attention_step.

// Vectors of a team, odd: neighbouring teams fall into different banks.
const JOIN_PITCH: u32 = JOIN_VECTORS | 1u;

// [SLOTS, ROWS]: largest score and sum of weights.
var<workgroup> sh_rows: array<vec2<f32>, SLOTS * ROWS>;
// [SLOTS, JOIN_PITCH]: every team's vectors.
var<workgroup> sh_join: array<vec4<f32>, SLOTS * JOIN_PITCH>;

// Tells the others what the lane's team knows of row r.
fn tell_row(r: u32, lane: u32, state: Running) {
    if (member_of(lane) == 0u) {
        sh_rows[lane / TEAM * ROWS + r] = vec2(state.top, state.sum);
    }
}

// All lanes must call this together, after every row is told and before the first `settled`.
fn all_told() {
    workgroupBarrier(); // every team's rows are in place
}

// Row r of the workgroup, from what the teams told: `rescale` is what sums of this lane's team are
// worth in the weighted mean.
fn settled(r: u32, mine: Running) -> Running {
    var top = NO_SCORE;
    for (var slot = 0u; slot < SLOTS; slot++) {
        top = max(top, sh_rows[slot * ROWS + r].x);
    }
    var sum = 0.0;
    for (var slot = 0u; slot < SLOTS; slot++) {
        let told = sh_rows[slot * ROWS + r];
        sum += told.y * weight_of(told.x - top);
    }
    return Running(top, sum, weight_of(mine.top - top) * inverse_of(sum));
}

// Keeps vector n of the lane's team for the others.
fn share(n: u32, lane: u32, value: vec4<f32>) {
    sh_join[lane / TEAM * JOIN_PITCH + n] = value;
}

// All lanes must call this together, after everything is shared and before the first `joined`.
fn all_shared() {
    workgroupBarrier(); // every team's vectors are in place
}

// The vectors that this lane joins: from `first` on, every `step`th.
fn join_turns(lane: u32) -> vec2<u32> {
    return vec2(lane, THREADS);
}

// Vector n, added up over the teams.
fn joined(n: u32, lane: u32) -> vec4<f32> {
    var total = vec4(0.0);
    for (var slot = 0u; slot < SLOTS; slot++) {
        total += sh_join[slot * JOIN_PITCH + n];
    }
    return total;
}

// Whether this lane stores what `joined` gave it.
fn stores_joined(lane: u32) -> bool {
    return true;
}
