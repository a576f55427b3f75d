// Queries and results in f32, element by element: any head_dim, stride and start.
// A head starts at element e of its buffer; i counts its vectors, i < DIM4. Elements beyond
// HEAD_DIM read as 0 and are not written.

// [B, T, H, head_dim] in the order that the strides give.
@group(0) @binding(0) var<storage, read> q: array<f32>;
// [B, T, H, head_dim] in the order that the strides give.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

fn load_q(e: u32, i: u32) -> vec4<f32> {
    var x = vec4(0.0);
    for (var d = 0u; d < 4u; d++) { // unroll
        if (4u * i + d < HEAD_DIM) {
            x[d] = q[e + 4u * i + d];
        }
    }
    return x;
}

fn store_out(e: u32, i: u32, value: vec4<f32>) {
    for (var d = 0u; d < 4u; d++) { // unroll
        if (4u * i + d < HEAD_DIM) {
            out[e + 4u * i + d] = value[d];
        }
    }
}
