// Results element by element: any head_dim, stride and start. Elements beyond HEAD_DIM are
// not written. Same function as attention_out_vec4.
#import attention_dim
#import store_f32

// [B, T, H, head_dim] in the order that the strides give.
@group(0) @binding(6) var<storage, read_write> out: array<Stored>;

fn store_out(e: u32, i: u32, value: vec4<f32>) {
    for (var d = 0u; d < 4u; d++) { // unroll
        if (4u * i + d < HEAD_DIM) {
            out[e + 4u * i + d] = stored(value[d]);
        }
    }
}
