// The slabs in workgroup memory, a half to an element, for Metal: its loads of matrices take no
// pointer to vectors. Same functions as slab_quads.

const SLAB_SCALE: u32 = 4u; // elements of four halves

var<workgroup> sh_x: array<f16, 4u * SLAB>;
var<workgroup> sh_weight: array<f16, 4u * SLAB>;

fn stage_x(slot: u32, halves: vec4<f16>) {
    for (var i = 0u; i < 4u; i++) { // unroll
        sh_x[4u * slot + i] = halves[i];
    }
}

fn stage_weight(slot: u32, halves: vec4<f16>) {
    for (var i = 0u; i < 4u; i++) { // unroll
        sh_weight[4u * slot + i] = halves[i];
    }
}
