//! The softmax that the fused kernels never write down, for pictures and explanations.

use rayon::prelude::*;

use super::problem::Problem;
use super::reference::softmax;
use super::{Attention, HeadLayout};
use crate::error::Result;
use crate::ops::op::{Args, Op};
use crate::tensor::{Dim, Shape, SymMeta, Tensor};

impl Attention {
    /// Every query's weight on every key, f32 `[B, H, T, S]`, from a call's operands: computed on
    /// the host in f64. Rows sum to 1; a query that sees no key has zeros.
    ///
    /// Errors as the op does when the operands do not fit each other.
    pub fn weights(&self, args: &Args<'_>) -> Result<Tensor> {
        let metas: Vec<_> =
            args.tensors.iter().map(|t| t.map(|t| SymMeta::from(t.meta()))).collect();
        self.infer(&metas)?;
        let problem = Problem::new(self, args)?;
        let [batch, queries, keys] =
            [problem.extent.batch, problem.extent.q_len, problem.extent.kv_len];
        let shape = Shape::new(&[batch, self.n_heads, queries, keys])?;
        let mut out = vec![0.0f32; shape.numel()];
        out.par_chunks_exact_mut(keys.max(1)).enumerate().for_each(|(at, row)| {
            let (head, i) = (at / queries, at % queries);
            let (b, h) = (head / self.n_heads, head % self.n_heads);
            for (j, weight) in softmax(self, &problem, b, h, i) {
                row[j] = weight as f32;
            }
        });
        Tensor::f32(shape, out)
    }

    /// The dimensions that count queries and keys when q and k have these shapes.
    pub fn token_dims(&self, q: &SymMeta, k: &SymMeta) -> Option<[Dim; 2]> {
        let axis = if self.layout == HeadLayout::Tokens { 1 } else { 2 };
        Some([*q.dims.get(axis)?, *k.dims.get(axis)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attention::problem::View;
    use crate::ops::attention::{V, cases};

    /// The weighted sum of the values, against the CPU route, which keeps running sums instead.
    #[test]
    fn rows_sum_to_one_and_give_the_op_s_result() {
        // Cases that store the result in f16 hold values beyond it, which f32 weights round by more
        // than their bounds say.
        for case in cases::cases().into_iter().filter(|case| !case.narrow) {
            let op: &Attention = case.op.downcast().unwrap();
            let tensors: Vec<_> = case.inputs.iter().map(Option::as_ref).collect();
            let args = Args { op: op.name(), tensors: &tensors, sizes: &case.sizes };
            let weights = op.weights(&args).unwrap();
            let want = op.run_cpu(&args).unwrap().remove(0);
            let v = args.need(V).unwrap();
            let view = View::new(v.shape(), op.layout, op.v_column, op.head_dim);
            let (v, out) =
                (v.to_f32().unwrap(), View::new(want.shape(), op.layout, 0, op.head_dim));
            let &[_, heads, queries, keys] = weights.shape().dims() else { unreachable!() };
            let mut got = vec![0.0f32; want.shape().numel()];
            for (at, row) in weights.as_f32().unwrap().chunks_exact(keys).enumerate() {
                let (b, h, i) = (at / queries / heads, at / queries % heads, at % queries);
                let sum: f64 = row.iter().map(|w| f64::from(*w)).sum();
                let hidden = row.iter().all(|w| *w == 0.0);
                assert!(hidden || (sum - 1.0).abs() < 1e-6, "{}: row {at} {sum}", case.label);
                let g = h * op.n_kv_heads / heads;
                for d in 0..op.head_dim {
                    let value = |j| f64::from(v[view.at(b, j, g) + d]);
                    let sum: f64 = (0..keys).map(|j| f64::from(row[j]) * value(j)).sum();
                    got[out.at(b, i, h) + d] = sum as f32;
                }
            }
            let got = Tensor::f32(want.shape(), got).unwrap();
            let found = case.tolerance.compare(&got, &want, 0).unwrap();
            assert!(found.passed, "{}: {found:?}", case.label);
        }
    }

    #[test]
    fn operands_are_checked() {
        let case = cases::cases().remove(0);
        let op: &Attention = case.op.downcast().unwrap();
        let mut tensors: Vec<_> = case.inputs.iter().map(Option::as_ref).collect();
        tensors[V] = None;
        let args = Args { op: op.name(), tensors: &tensors, sizes: &case.sizes };
        assert!(op.weights(&args).unwrap_err().to_string().contains("operands q, k, v"));
    }
}
