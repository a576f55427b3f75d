// Reductions over a workgroup of THREADS invocations through workgroup memory, as a fixed
// tree: the same input gives the same bits. Same signatures as reduce_subgroup.
// All invocations must call these together, and all get the result.
const THREADS: u32 = 64u;

var<workgroup> sh_reduce: array<f32, THREADS>;

fn reduce_sum(value: f32, lane: u32) -> f32 {
    sh_reduce[lane] = value;
    workgroupBarrier(); // every lane's value is in place
    for (var width = THREADS / 2u; width > 0u; width /= 2u) {
        if (lane < width) {
            sh_reduce[lane] += sh_reduce[lane + width];
        }
        workgroupBarrier(); // this level is complete before the next reads it
    }
    let total = sh_reduce[0];
    workgroupBarrier(); // everyone has read before the next reduction overwrites
    return total;
}

fn reduce_max(value: f32, lane: u32) -> f32 {
    sh_reduce[lane] = value;
    workgroupBarrier(); // every lane's value is in place
    for (var width = THREADS / 2u; width > 0u; width /= 2u) {
        if (lane < width) {
            sh_reduce[lane] = max(sh_reduce[lane], sh_reduce[lane + width]);
        }
        workgroupBarrier(); // this level is complete before the next reads it
    }
    let largest = sh_reduce[0];
    workgroupBarrier(); // everyone has read before the next reduction overwrites
    return largest;
}
