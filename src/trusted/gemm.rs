//! The safe door to the `gemm` crate.

use gemm::Parallelism;

use crate::error::{Error, Result};

/// A dense matrix in memory.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// Elements.
    pub values: &'a [f32],
    /// Whether `values` holds the transposed matrix row by row.
    pub transposed: bool,
}

/// `y = x w` for x [m, k], w [k, n] and row-major y [m, n], on all cores.
pub fn multiply([m, n, k]: [usize; 3], x: Matrix<'_>, w: Matrix<'_>, y: &mut [f32]) -> Result<()> {
    let expected = [m * k, k * n, m * n];
    let found = [x.values.len(), w.values.len(), y.len()];
    if expected != found {
        let message = format!("{found:?} elements given for {m} x {n} x {k}, not {expected:?}");
        return Err(Error::op("matmul", message));
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    // (column stride, row stride)
    let strides = |rows: usize, columns: usize, transposed: bool| {
        if transposed { (rows as isize, 1) } else { (1, columns as isize) }
    };
    let (x_cs, x_rs) = strides(m, k, x.transposed);
    let (w_cs, w_rs) = strides(k, n, w.transposed);
    // SAFETY: the lengths were checked above, and with these strides every index of the three
    // dense matrices lies inside its slice; y is borrowed mutably, so nothing aliases it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            1,
            n as isize,
            false,
            x.values.as_ptr(),
            x_cs,
            x_rs,
            w.values.as_ptr(),
            w_cs,
            w_rs,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
    Ok(())
}
