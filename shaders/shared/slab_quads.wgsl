// The slabs in workgroup memory, four halves to an element. A load of matrices points at elements
// and its stride counts them.

const SLAB_SCALE: u32 = 1u; // elements of four halves

var<workgroup> sh_x: array<vec4<f16>, SLAB>;
var<workgroup> sh_weight: array<vec4<f16>, SLAB>;

fn stage_x(slot: u32, halves: vec4<f16>) {
    sh_x[slot] = halves;
}

fn stage_weight(slot: u32, halves: vec4<f16>) {
    sh_weight[slot] = halves;
}
