// Queries in f32, element by element: any head_dim, stride and start. Elements beyond HEAD_DIM read
// as 0. Same function as attention_q_vec4.
#import attention_dim

// [B, T, H, head_dim] in the order that the strides give.
@group(0) @binding(0) var<storage, read> q: array<f32>;

fn load_q(e: u32, i: u32) -> vec4<f32> {
    var x = vec4(0.0);
    for (var d = 0u; d < 4u; d++) { // unroll
        if (4u * i + d < HEAD_DIM) {
            x[d] = q[e + 4u * i + d];
        }
    }
    return x;
}
