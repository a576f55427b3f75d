// f32 weights, read four at a time: every offset given to load_weight4 is a multiple of 4.
#import quad_vec4

@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>; // element e: weight[e / 4][e % 4]

fn load_weight4(offset: u32) -> vec4<f32> {
    return weight[offset / 4u];
}
