// How the lanes of a workgroup of THREADS, whatever its subgroups, add up their weighted values.
// Same functions as attention_join_subgroup. THREADS comes from reduce_workgroup.

// Vectors of a lane, odd: neighbouring lanes fall into different banks.
const JOIN_PITCH: u32 = JOIN_VECTORS | 1u;

// [THREADS, JOIN_PITCH]: every lane's vectors.
var<workgroup> sh_join: array<vec4<f32>, THREADS * JOIN_PITCH>;

// Keeps vector n of the lane for the others.
fn share(n: u32, lane: u32, value: vec4<f32>) {
    sh_join[lane * JOIN_PITCH + n] = value;
}

// All lanes must call this together, after everything is shared and before the first `joined`.
fn all_shared() {
    workgroupBarrier(); // every lane's vectors are in place
}

// The vectors that this lane joins: from `first` on, every `step`th.
fn join_turns(lane: u32) -> vec2<u32> {
    return vec2(lane, THREADS);
}

// Vector n, added up over the lanes.
fn joined(n: u32, lane: u32) -> vec4<f32> {
    var total = vec4(0.0);
    for (var l = 0u; l < THREADS; l++) {
        total += sh_join[l * JOIN_PITCH + n];
    }
    return total;
}

// Whether this lane stores what `joined` gave it.
fn stores_joined(lane: u32) -> bool {
    return true;
}
