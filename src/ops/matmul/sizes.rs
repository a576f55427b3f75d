//! The sizes of a product.

use super::Layout;
use crate::tensor::Shape;

/// The sizes of one product. With one weight for all of x, and x not transposed, all rows of x
/// are one matrix and `batch` is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sizes3 {
    pub batch: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub w_batch_stride: usize,
}

impl Sizes3 {
    pub(super) fn new(layout: Layout, x: Shape, weight: Shape) -> Self {
        let (xd, wd) = (x.dims(), weight.dims());
        let (a, b) = (xd.get(xd.len().wrapping_sub(2)).copied().unwrap_or(1), x.last());
        let (m, k) = if layout.x_transposed() { (b, a) } else { (a, b) };
        let (a, b) = (wd.get(wd.len().wrapping_sub(2)).copied().unwrap_or(1), weight.last());
        let n = if layout.w_transposed() { a } else { b };
        let batch = x.numel().checked_div(m * k).unwrap_or(0);
        let shared = weight.numel() == n * k;
        match (shared, layout.x_transposed()) {
            (true, false) => Self { batch: 1, m: m * batch, n, k, w_batch_stride: 0 },
            (true, true) => Self { batch, m, n, k, w_batch_stride: 0 },
            (false, _) => Self { batch, m, n, k, w_batch_stride: n * k },
        }
    }
}
