//! Pooling of token vectors, and scaling to length 1: the head of sentence embeddings.
//!
//! `mean`: `y[b] = sum_t mask[b, t] x[b, t] / max(sum_t mask[b, t], 1e-9)`;
//! `cls`: `y[b] = x[b, 0]`; `last`: `y[b] = x[b, T - 1]`. Shapes: x [B, T, C], mask u32 [B, T], y [B, C].
//! `l2_normalize`: `y = x / max(|x|, eps)` over the innermost dimension.
//! Source: Reimers and Gurevych 2019, "Sentence-BERT", as sentence-transformers computes it.

use std::sync::Arc;

use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::rounds;
use super::single::Single;
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::{Spec, fold};
use crate::tensor::{SymMeta, Tensor};

const X: usize = 0;
const MASK: usize = 1;

/// How the tokens of a sequence become one vector; operands `x mask?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Mean over the tokens whose mask is 1; over all tokens without a mask.
    Mean,
    /// The first token.
    Cls,
    /// The last token, padding or not.
    Last,
}

crate::params! {
    /// Twin of `Params` in `shaders/pool.wgsl`.
    struct PoolParams { batch: u32, tokens: u32, cols: u32 }
}

static POOL_KERNELS: [&dyn Kernel; 1] = [&Single::new(
    crate::shader!("pool"),
    PoolParams::FIELDS,
    pool_spec,
    pool_dispatch,
    pool_rounds,
)];

/// Columns per workgroup, as in the shader.
const COLUMNS: usize = 64;

/// Tokens that an invocation adds up per round, as in the shader.
const STEPS: usize = 8;

fn pool_spec(op: &Pool, call: &Call<'_>) -> Spec {
    Spec::new()
        .set("CLS", *op == Pool::Cls)
        .set("LAST", *op == Pool::Last)
        .set("HAS_MASK", call.has(MASK))
}

fn pool_dispatch(_op: &Pool, call: &Call<'_>) -> Dispatch {
    let shape = call.input(X).shape;
    let dim = |i| shape.dims().get(i).copied().unwrap_or(1);
    let (batch, cols) = (dim(0), dim(2));
    let params = PoolParams { batch: batch as u32, tokens: dim(1) as u32, cols: cols as u32 };
    let grid = fold(batch * cols.div_ceil(COLUMNS));
    Dispatch::new(&params, grid)
}

fn pool_rounds(op: &Pool, call: &Call<'_>) -> u64 {
    let tokens = call.input(X).shape.dims().get(1).copied().unwrap_or(1);
    if *op == Pool::Mean { rounds::of_loop(tokens.div_ceil(STEPS), 0) } else { 0 }
}

impl Op for Pool {
    fn entry(&self) -> &'static Entry {
        &POOL
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x", "mask"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("pool", message));
        let [Some(x), mask] = inputs else {
            return fail("expected operands x, mask?".to_owned());
        };
        let &[batch, tokens, cols] = x.dims.as_slice() else {
            return fail(format!("x {x} must be [batch, tokens, width]"));
        };
        if let Some(m) = mask.as_ref().filter(|m| **m != SymMeta::u32([batch, tokens])) {
            return fail(format!("mask {m} must be u32[batch, tokens] of x {x}"));
        }
        Ok(vec![SymMeta::f32([batch, cols])])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(X)?;
        let &[batch, tokens, cols] = x.shape().dims() else {
            return Err(Error::op("pool", format!("x {} must have three dimensions", x.meta())));
        };
        let mask = args.get(MASK).map(Tensor::as_u32).transpose()?;
        let values = x.as_f32()?;
        let mut y = Vec::with_capacity(batch * cols);
        for b in 0..batch {
            for c in 0..cols {
                let at = |t: usize| f64::from(values[(b * tokens + t) * cols + c]);
                let weight = |t: usize| mask.map_or(1.0, |m| f64::from(m[b * tokens + t].min(1)));
                y.push(match self {
                    Self::Cls => at(0) as f32,
                    Self::Last => at(tokens.saturating_sub(1)) as f32,
                    Self::Mean => {
                        let sum: f64 = (0..tokens).map(|t| weight(t) * at(t)).sum();
                        let count: f64 = (0..tokens).map(weight).sum();
                        (sum / count.max(1e-9)) as f32
                    }
                });
            }
        }
        Ok(vec![Tensor::f32([batch, cols], y)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(call.input(X).shape.numel() as f64, call)
    }
}

/// Registry entry of [`Pool`].
pub static POOL: Entry = Entry {
    name: "pool",
    aliases: &["mean_pool"],
    summary: "y = mean over the mask's tokens, the first or the last token",
    kernels: &POOL_KERNELS,
    cases: pool_cases,
    long_cases: pool_long_cases,
    build: build_pool,
};

fn build_pool(request: &mut Request) -> Result<Built> {
    let inputs = vec![Some(request.need(&["x"])?), request.take(&["mask", "attention_mask"])];
    let kind: Option<String> = request.get("pooling")?;
    let op = match kind.as_deref() {
        None | Some("mean") => Pool::Mean,
        Some("cls") => Pool::Cls,
        Some("last") => Pool::Last,
        Some(other) => {
            return Err(Error::op("pool", format!("pooling={other}: expected mean, cls or last")));
        }
    };
    Ok((Arc::new(op), inputs))
}

fn pool_cases() -> Vec<Case> {
    let mut rng = Rng::new(13);
    let mut cases = Vec::new();
    for (batch, tokens, cols) in [(1, 1, 1), (3, 9, 48), (2, 64, 63), (2, 5, 64), (1, 131, 65)] {
        let x = rng.tensor([batch, tokens, cols]);
        let mask = (0..batch * tokens).map(|i| u32::from(i % tokens <= i / tokens * 4)).collect();
        let mask = Tensor::u32([batch, tokens], mask);
        let mask = mask.unwrap_or_else(|_| unreachable!("as many values as elements"));
        let label = format!("{batch}x{tokens}x{cols}");
        let case = |what: &str, op, mask, tolerance| {
            Case::new(format!("{label} {what}"), op, vec![Some(x.clone()), mask], tolerance)
        };
        // A sum of at most 131 terms of order one in f32.
        let tolerance = || Tolerance::f32(2e-6, 1e-6);
        cases.push(case("masked mean", Pool::Mean, Some(mask), tolerance()));
        cases.push(case("mean", Pool::Mean, None, tolerance()));
        cases.push(case("cls", Pool::Cls, None, Tolerance::exact()));
        cases.push(case("last", Pool::Last, None, Tolerance::exact()));
    }
    let x = rng.tensor([2, 3, 8]);
    let none = Tensor::u32([2, 3], vec![0, 0, 0, 1, 0, 1]);
    let none = none.unwrap_or_else(|_| unreachable!("as many values as elements"));
    let inputs = vec![Some(x), Some(none)];
    cases.push(Case::new("a row without tokens", Pool::Mean, inputs, Tolerance::f32(1e-6, 1e-6)));
    cases
}

fn pool_long_cases() -> Vec<Case> {
    let mut rng = Rng::new(13);
    let tokens = 262_144;
    // A sequence with a mean of its own, whose sum grows from token to token: of the 2^18 additions
    // one after the other each rounds by up to 2^-25 of it, by turns up and down.
    let x = rng.tensor_with([1, tokens, 3], |r| 1.0 + r.normal());
    let mask = (0..tokens).map(|_| u32::from(rng.below(8) > 0)).collect();
    let inputs = vec![Some(x), Tensor::u32([1, tokens], mask).ok()];
    let tolerance = Tolerance { nmse: 1e-9, ..Tolerance::f32(0.0, 5e-5) };
    vec![Case::new(format!("1x{tokens}x3 masked mean"), Pool::Mean, inputs, tolerance)]
}

/// Scaling to length 1; operand `x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct L2Normalize {
    /// Smallest length divided by.
    pub eps: f32,
}

crate::params! {
    /// Twin of `Params` in `shaders/l2_normalize.wgsl`.
    struct NormParams { rows: u32, cols: u32, eps: f32 }
}

static NORM_KERNELS: [&dyn Kernel; 1] = [&Single::new(
    crate::shader!("l2_normalize"),
    NormParams::FIELDS,
    norm_spec,
    norm_dispatch,
    norm_rounds,
)];

/// Invocations of a workgroup, which share a row, as in `shaders/shared/reduce_workgroup.wgsl`.
const NORM_THREADS: u32 = 64;

fn norm_spec(_op: &L2Normalize, _call: &Call<'_>) -> Spec {
    Spec::new()
}

fn norm_dispatch(op: &L2Normalize, call: &Call<'_>) -> Dispatch {
    let x = call.input(X).shape;
    let params = NormParams { rows: x.rows() as u32, cols: x.last() as u32, eps: op.eps };
    Dispatch::new(&params, fold(x.rows()))
}

fn norm_rounds(_op: &L2Normalize, call: &Call<'_>) -> u64 {
    let walk = rounds::of_loop(call.input(X).shape.last().div_ceil(NORM_THREADS as usize), 0);
    2 * walk + rounds::of_tree(NORM_THREADS)
}

impl Op for L2Normalize {
    fn entry(&self) -> &'static Entry {
        &L2_NORMALIZE
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        match inputs {
            [Some(x)] if x.dtype.is_float() && x.last().is_some_and(|c| c > 0) => {
                Ok(vec![x.clone()])
            }
            [Some(x)] => {
                Err(Error::op("l2_normalize", format!("x {x} must be f32 with a fixed width")))
            }
            _ => Err(Error::op("l2_normalize", "expected operand x")),
        }
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(X)?;
        let mut y = Vec::with_capacity(x.shape().numel());
        for row in x.as_f32()?.chunks_exact(x.shape().last()) {
            let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let scale = 1.0 / length.max(f64::from(self.eps));
            y.extend(row.iter().map(|&v| (f64::from(v) * scale) as f32));
        }
        Ok(vec![Tensor::f32(x.shape(), y)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(3.0 * call.input(X).shape.numel() as f64, call)
    }
}

/// Registry entry of [`L2Normalize`].
pub static L2_NORMALIZE: Entry = Entry {
    name: "l2_normalize",
    aliases: &[],
    summary: "y = x / max(|x|, eps)",
    kernels: &NORM_KERNELS,
    cases: norm_cases,
    long_cases: norm_long_cases,
    build: build_norm,
};

fn build_norm(request: &mut Request) -> Result<Built> {
    let x = request.need(&["x"])?;
    let eps = request.get("eps")?.unwrap_or(1e-12);
    Ok((Arc::new(L2Normalize { eps }), vec![Some(x)]))
}

fn norm_cases() -> Vec<Case> {
    let mut rng = Rng::new(14);
    let op = L2Normalize { eps: 1e-12 };
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (3, 63), (2, 64), (5, 65), (2, 1031)] {
        // A sum of squares in f32, then a square root and a division.
        let tolerance = Tolerance::f32(1e-7, 2e-6);
        let x = rng.tensor([rows, cols]);
        cases.push(Case::new(format!("{rows}x{cols}"), op, vec![Some(x)], tolerance));
    }
    let zero = rng.tensor_with([2, 40], |_| 0.0);
    cases.push(Case::new("zero rows", op, vec![Some(zero)], Tolerance::exact()));
    cases
}

fn norm_long_cases() -> Vec<Case> {
    let x = Rng::new(14).tensor([2, 262_144]);
    let op = L2Normalize { eps: 1e-12 };
    vec![Case::new("2x262144", op, vec![Some(x)], Tolerance::f32(1e-7, 2e-6))]
}
