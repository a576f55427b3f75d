//! Both CPU routes of matmul: the plain reference and the fast one.

use rayon::prelude::*;

use super::sizes::Sizes3;
use super::{BIAS, Matmul, RESIDUAL, WEIGHT, X};
use crate::error::Result;
use crate::ops::op::Args;
use crate::tensor::{Shape, Tensor};
use crate::trusted::{Matrix, multiply};

/// Sizes of the call and the shape of y.
fn shapes(op: &Matmul, args: &Args<'_>) -> Result<(Sizes3, Shape)> {
    let (x, weight) = (args.need(X)?.meta(), args.need(WEIGHT)?.meta());
    let sizes = Sizes3::new(op.layout, x.shape, weight.shape);
    let mut dims: Vec<usize> = x.shape.dims().to_vec();
    let rank = dims.len();
    if op.layout.x_transposed() {
        dims[rank - 2] = x.shape.last();
    }
    Ok((sizes, Shape::new(&dims)?.with_last(op.columns(sizes.n))))
}

/// Plain loops, f64 accumulation.
pub fn reference(op: &Matmul, args: &Args<'_>) -> Result<Vec<Tensor>> {
    let (s, shape) = shapes(op, args)?;
    let x = args.need(X)?.to_f32()?;
    let weight = args.need(WEIGHT)?.to_f32()?;
    let bias = args.get(BIAS).map(Tensor::as_f32).transpose()?;
    let residual = args.get(RESIDUAL).map(Tensor::as_f32).transpose()?;
    let mut y = Vec::with_capacity(shape.numel());
    for b in 0..s.batch {
        let x = &x[b * s.m * s.k..];
        let w = &weight[b * s.w_batch_stride..];
        for i in 0..s.m {
            let sum = |j: usize| {
                let mut sum = 0.0;
                for k in 0..s.k {
                    let a = if op.layout.x_transposed() { x[k * s.m + i] } else { x[i * s.k + k] };
                    let c = if op.layout.w_transposed() { w[j * s.k + k] } else { w[k * s.n + j] };
                    sum += f64::from(a) * f64::from(c);
                }
                sum + bias.map_or(0.0, |bias| f64::from(bias[j]))
            };
            for j in 0..op.columns(s.n) {
                if op.gated {
                    y.push((op.activation.reference(sum(2 * j)) * sum(2 * j + 1)) as f32);
                    continue;
                }
                let extra = residual.map_or(0.0, |r| f64::from(r[y.len()]));
                y.push((op.activation.reference(sum(j)) + extra) as f32);
            }
        }
    }
    Ok(vec![Tensor::f32(shape, y)?])
}

/// The `gemm` crate on all cores, then bias, activation and residual row by row.
pub fn fast(op: &Matmul, args: &Args<'_>) -> Result<Vec<Tensor>> {
    let (s, shape) = shapes(op, args)?;
    let x = args.need(X)?.to_f32()?;
    let weight = args.need(WEIGHT)?.to_f32()?;
    let mut y = vec![0.0; s.batch * s.m * s.n];
    for b in 0..s.batch {
        let x = &x[b * s.m * s.k..][..s.m * s.k];
        let w = &weight[b * s.w_batch_stride..][..s.n * s.k];
        multiply(
            [s.m, s.n, s.k],
            Matrix { values: x, transposed: op.layout.x_transposed() },
            Matrix { values: w, transposed: op.layout.w_transposed() },
            &mut y[b * s.m * s.n..][..s.m * s.n],
        )?;
    }
    let bias = args.get(BIAS).map(Tensor::as_f32).transpose()?;
    let residual = args.get(RESIDUAL).map(Tensor::as_f32).transpose()?;
    let activation = op.activation;
    y.par_chunks_mut(s.n.max(1)).enumerate().for_each(|(row, y)| {
        if let Some(bias) = bias {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        if op.gated {
            y.chunks_exact_mut(2).for_each(|pair| pair[0] = activation.apply(pair[0]) * pair[1]);
            return;
        }
        y.iter_mut().for_each(|y| *y = activation.apply(*y));
        if let Some(residual) = residual {
            y.iter_mut().zip(&residual[row * s.n..]).for_each(|(y, r)| *y += r);
        }
    });
    if op.gated {
        y = y.into_iter().step_by(2).collect();
    }
    Ok(vec![Tensor::f32(shape, y)?])
}
