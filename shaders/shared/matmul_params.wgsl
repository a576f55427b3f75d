// Sizes of one matmul dispatch: y[batch_offset + b, i, n_offset + j] for b < batch, i < m, j < n.
// The weight given holds rows (or columns) n_offset .. n_offset + n of the whole one, so a
// weight beyond the binding limit is multiplied in parts; one that differs by batch is parted
// by batches, batch_offset first. Strides are in elements.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    batch: u32,
    w_batch_stride: u32, // 0: one weight for every batch
    y_row_stride: u32,   // columns of the whole y: half those of the product, if gated
    n_offset: u32,
    batch_offset: u32,   // added to b for x and y
}
var<immediate> params: Params;
