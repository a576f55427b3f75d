// Results 4 elements at a time: head_dim, strides and starts are multiples of 4.
// A head starts at element e of its buffer; i counts its vectors, i < DIM4.
#import attention_dim
#import store_f32

// [B, T, H, head_dim] in the order that the strides give.
@group(0) @binding(6) var<storage, read_write> out: array<Stored>;

fn store_out(e: u32, i: u32, value: vec4<f32>) {
    out[e / 4u + i] = stored(value);
}
