// Reductions over a workgroup that is exactly one subgroup of THREADS invocations.
// Same signatures as reduce_workgroup; needs no workgroup memory and no barrier.
const THREADS: u32 = 8u;

fn reduce_sum(value: f32, lane: u32) -> f32 {
    return subgroupAdd(value);
}

fn reduce_max(value: f32, lane: u32) -> f32 {
    return subgroupMax(value);
}
