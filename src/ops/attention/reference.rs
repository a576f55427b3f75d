//! The formula in plain loops, and the CPU route.

use rayon::prelude::*;

use super::Attention;
use super::problem::Problem;
use crate::error::Result;
use crate::ops::op::Args;
use crate::tensor::Tensor;

/// The keys that one query of one head sees, with its weight on each: the softmax, in f64.
pub(super) fn softmax(
    op: &Attention,
    problem: &Problem<'_>,
    b: usize,
    h: usize,
    i: usize,
) -> Vec<(usize, f64)> {
    let g = h / (op.n_heads / op.n_kv_heads);
    let q = problem.q.1.at(b, i, h);
    let mut row = Vec::new();
    for j in problem.visible(i).filter(|&j| problem.real(b, j)) {
        let k = problem.k.1.at(b, j, g);
        let mut dot = 0.0;
        for d in 0..op.head_dim {
            dot += f64::from(problem.q.0[q + d]) * f64::from(problem.k.0[k + d]);
        }
        let mut score = f64::from(op.scale) * dot;
        if let Some(cap) = op.softcap.map(f64::from) {
            score = cap * (score / cap).tanh();
        }
        row.push((j, score + f64::from(problem.bias(b, h, i, j))));
    }
    let top = row.iter().fold(f64::NEG_INFINITY, |top, s| top.max(s.1));
    let total: f64 = row.iter().map(|s| (s.1 - top).exp()).sum();
    row.iter_mut().for_each(|s| s.1 = (s.1 - top).exp() / total);
    row
}

/// The formula, accumulating in f64, one query at a time.
pub(super) fn reference(op: &Attention, args: &Args<'_>) -> Result<Tensor> {
    let problem = Problem::new(op, args)?;
    let extent = problem.extent;
    let mut out = vec![0.0f32; problem.out.0.numel()];
    for b in 0..extent.batch {
        for h in 0..op.n_heads {
            let g = h / (op.n_heads / op.n_kv_heads);
            for i in 0..extent.q_len {
                let weights = softmax(op, &problem, b, h, i);
                let y = problem.out.1.at(b, i, h);
                for d in 0..op.head_dim {
                    let value = |j| f64::from(problem.v.0[problem.v.1.at(b, j, g) + d]);
                    out[y + d] = weights.iter().map(|w| w.1 * value(w.0)).sum::<f64>() as f32;
                }
            }
        }
    }
    Tensor::f32(problem.out.0, out)
}

/// Queries that share a block of keys while it is in the cache.
const BLOCK_Q: usize = 32;
const BLOCK_K: usize = 64;

/// The CPU route: online softmax over blocks of keys, in f32, on all threads.
pub(super) fn run_cpu(op: &Attention, args: &Args<'_>) -> Result<Tensor> {
    let problem = Problem::new(op, args)?;
    let extent = problem.extent;
    let blocks = extent.q_len.div_ceil(BLOCK_Q);
    let tasks = extent.batch * op.n_heads * blocks;
    let place =
        |task: usize| (task / blocks / op.n_heads, task / blocks % op.n_heads, task % blocks);
    let rows: Vec<Vec<f32>> = (0..tasks)
        .into_par_iter()
        .map(|task| {
            let (b, h, block) = place(task);
            let first = block * BLOCK_Q;
            attend(op, &problem, b, h, first..extent.q_len.min(first + BLOCK_Q))
        })
        .collect();
    let mut out = vec![0.0f32; problem.out.0.numel()];
    for (task, rows) in rows.iter().enumerate() {
        let (b, h, block) = place(task);
        for (n, row) in rows.chunks_exact(op.head_dim).enumerate() {
            let y = problem.out.1.at(b, block * BLOCK_Q + n, h);
            out[y..y + op.head_dim].copy_from_slice(row);
        }
    }
    Tensor::f32(problem.out.0, out)
}

/// The output rows of some queries of one head.
fn attend(
    op: &Attention,
    problem: &Problem<'_>,
    b: usize,
    h: usize,
    queries: std::ops::Range<usize>,
) -> Vec<f32> {
    let dim = op.head_dim;
    let g = h / (op.n_heads / op.n_kv_heads);
    let mut sums = vec![0.0f32; queries.len() * dim];
    let mut state = vec![(f32::MIN, 0.0f32); queries.len()];
    let mut weights = [0.0f32; BLOCK_K];
    let start = queries.clone().map(|i| problem.visible(i).start).min().unwrap_or(0);
    let end = queries.clone().map(|i| problem.visible(i).end).max().unwrap_or(0);
    for first in (start..end).step_by(BLOCK_K) {
        for (n, i) in queries.clone().enumerate() {
            let seen = problem.visible(i);
            let keys = first.max(seen.start)..(first + BLOCK_K).min(seen.end);
            let q = problem.q.1.at(b, i, h);
            let q = &problem.q.0[q..q + dim];
            let mut top = state[n].0;
            let mut used = 0;
            for j in keys.clone().filter(|&j| problem.real(b, j)) {
                let k = problem.k.1.at(b, j, g);
                let mut score = op.scale * dot(q, &problem.k.0[k..k + dim]);
                if let Some(cap) = op.softcap {
                    score = cap * (score / cap).tanh();
                }
                weights[used] = score + problem.bias(b, h, i, j);
                top = top.max(weights[used]);
                used += 1;
            }
            if used == 0 {
                continue;
            }
            let sum = &mut sums[n * dim..(n + 1) * dim];
            if top > state[n].0 {
                let rescale = (state[n].0 - top).exp();
                state[n] = (top, state[n].1 * rescale);
                sum.iter_mut().for_each(|s| *s *= rescale);
            }
            let real = keys.filter(|&j| problem.real(b, j));
            for (j, weight) in real.zip(&weights[..used]) {
                let weight = (weight - top).exp();
                state[n].1 += weight;
                let v = problem.v.1.at(b, j, g);
                let value = &problem.v.0[v..v + dim];
                sum.iter_mut().zip(value).for_each(|(s, v)| *s += weight * v);
            }
        }
    }
    for (row, (_, total)) in sums.chunks_exact_mut(dim).zip(state) {
        if total > 0.0 {
            row.iter_mut().for_each(|s| *s /= total);
        }
    }
    sums
}

/// A dot product in eight partial sums, which the compiler keeps in vector registers.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut partial = [0.0f32; 8];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..8 {
            partial[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    partial.iter().sum::<f32>() + rest
}
