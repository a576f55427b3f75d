// How the lanes of a workgroup that is one subgroup of 4 or 8, each a team, add up their weighted
// values: a shuffle from a constant lane is one instruction on the vector unit of a CPU, where a
// barrier suspends every lane. Same functions as attention_join_workgroup.

// [THREADS, JOIN_VECTORS]: every lane reads only what it wrote itself. (Registers cannot be indexed
// by a variable, and unrolling the joins takes drivers seconds to compile.)
var<workgroup> sh_join: array<vec4<f32>, THREADS * JOIN_VECTORS>;

fn tell_row(r: u32, lane: u32, state: Running) {}

fn all_told() {}

fn settled(r: u32, mine: Running) -> Running {
    let top = subgroupMax(mine.top);
    let factor = weight_of(mine.top - top);
    let sum = subgroupAdd(mine.sum * factor);
    return Running(top, sum, factor * inverse_of(sum));
}

fn share(n: u32, lane: u32, value: vec4<f32>) {
    sh_join[lane * JOIN_VECTORS + n] = value;
}

fn all_shared() {}

fn join_turns(lane: u32) -> vec2<u32> {
    return vec2(0u, 1u);
}

fn joined(n: u32, lane: u32) -> vec4<f32> {
    let mine = sh_join[lane * JOIN_VECTORS + n];
    var total = vec4(0.0);
    for (var l = 0u; l < THREADS; l++) { // unroll
        total += subgroupShuffle(mine, l);
    }
    return total;
}

fn stores_joined(lane: u32) -> bool {
    return lane == 0u;
}
