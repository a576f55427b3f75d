// The column of the largest value of a workgroup's lanes, the lowest of those with equal values:
// a fixed tree through workgroup memory. All invocations must call it together; lane 0 gets the
// result.
#import reduce_workgroup

var<workgroup> sh_value: array<f32, THREADS>;
var<workgroup> sh_column: array<u32, THREADS>;

fn winner(value: f32, column: u32, lane: u32) -> u32 {
    sh_value[lane] = value;
    sh_column[lane] = column;
    workgroupBarrier(); // every lane's winner is in place
    for (var width = THREADS / 2u; width > 0u; width /= 2u) {
        if (lane < width) {
            let v = sh_value[lane + width];
            let c = sh_column[lane + width];
            if (v > sh_value[lane] || (v == sh_value[lane] && c < sh_column[lane])) {
                sh_value[lane] = v;
                sh_column[lane] = c;
            }
        }
        workgroupBarrier(); // this level is complete before the next reads it
    }
    return sh_column[0];
}
