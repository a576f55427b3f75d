// Queries in f32, 4 elements at a time: head_dim, strides and starts are multiples of 4.
// A head starts at element e of its buffer; i counts its vectors, i < DIM4.
#import attention_dim

// [B, T, H, head_dim] in the order that the strides give.
@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;

fn load_q(e: u32, i: u32) -> vec4<f32> {
    return q[e / 4u + i];
}
