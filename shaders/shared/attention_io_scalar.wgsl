// Queries and results in f32, element by element: any head_dim, stride and start.
// A head starts at element e of its buffer; i counts its vectors, i < DIM4. Elements beyond
// HEAD_DIM read as 0 and are not written.

// [B, T, H, head_dim] in the order that the strides give.
@group(0) @binding(0) var<storage, read> q: array<f32>;
// [B, T, H, head_dim] in the order that the strides give.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

fn load_q(e: u32, i: u32) -> vec4<f32> {
    let d = 4u * i;
    var x = vec4<f32>(q[e + d], 0.0, 0.0, 0.0);
    if (d + 1u < HEAD_DIM) {
        x.y = q[e + d + 1u];
    }
    if (d + 2u < HEAD_DIM) {
        x.z = q[e + d + 2u];
    }
    if (d + 3u < HEAD_DIM) {
        x.w = q[e + d + 3u];
    }
    return x;
}

fn store_out(e: u32, i: u32, value: vec4<f32>) {
    let d = 4u * i;
    out[e + d] = value.x;
    if (d + 1u < HEAD_DIM) {
        out[e + d + 1u] = value.y;
    }
    if (d + 2u < HEAD_DIM) {
        out[e + d + 2u] = value.z;
    }
    if (d + 3u < HEAD_DIM) {
        out[e + d + 3u] = value.w;
    }
}
