//! `y[b, m] = x[b, picks[b, m]]`: some tokens of every sequence, so that a head runs on those
//! alone.
//!
//! Shapes: x `[B, T, C]`; picks u32 `[B, M]`, each below T; y `[B, M, C]`.

use std::sync::Arc;

use super::elementwise;
use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::single::{Single, no_loops};
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::Spec;
use crate::tensor::{DType, SymMeta, Tensor};

const X: usize = 0;
const PICKS: usize = 1;

/// Some tokens of every sequence; operands `x picks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather;

crate::params! {
    /// Twin of `Params` in `shaders/gather.wgsl`.
    struct Params { count: u32, tokens: u32, picks: u32, cols: u32 }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("gather"), Params::FIELDS, spec, dispatch, no_loops)];

fn spec(_op: &Gather, _call: &Call<'_>) -> Spec {
    Spec::new()
}

fn dispatch(_op: &Gather, call: &Call<'_>) -> Dispatch {
    let (x, y) = (call.input(X).shape, call.output(0).shape);
    let params = Params {
        count: y.numel() as u32,
        tokens: x.dims().get(1).copied().unwrap_or(1) as u32,
        picks: call.input(PICKS).shape.last() as u32,
        cols: y.last() as u32,
    };
    Dispatch::new(&params, elementwise::grid(y.numel()))
}

impl Op for Gather {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x", "picks"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("gather", message));
        let [Some(x), Some(picks)] = inputs else {
            return fail("expected operands x, picks".to_owned());
        };
        match (x.dims.as_slice(), picks.dims.as_slice()) {
            (&[batch, _, cols], &[same, count])
                if batch == same && x.dtype == DType::F32 && picks.dtype == DType::U32 =>
            {
                Ok(vec![SymMeta::f32([batch, count, cols])])
            }
            _ => fail(format!("x {x}, picks {picks}: expected f32[b, t, c] and u32[b, m]")),
        }
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let (x, picks) = (args.need(X)?, args.need(PICKS)?);
        let (&[_, tokens, cols], &[batch, count]) = (x.shape().dims(), picks.shape().dims()) else {
            return Err(Error::op("gather", format!("x {}, picks {}", x.meta(), picks.meta())));
        };
        let values = x.as_f32()?;
        let mut y = Vec::with_capacity(batch * count * cols);
        for (i, &pick) in picks.as_u32()?.iter().enumerate() {
            if pick as usize >= tokens {
                let message = format!("pick {pick} is beyond the {tokens} tokens");
                return Err(Error::op("gather", message));
            }
            let row = i / count * tokens + pick as usize;
            y.extend_from_slice(&values[row * cols..(row + 1) * cols]);
        }
        Ok(vec![Tensor::f32([batch, count, cols], y)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost { flops: 0.0, bytes: 2.0 * call.output(0).bytes() as f64 }
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "gather",
    aliases: &[],
    summary: "y[b, m] = x[b, picks[b, m]]",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let (x, picks) = (request.need(&["x"])?, request.need(&["picks"])?);
    let tokens = x.shape().dims().get(1).copied().unwrap_or(1);
    // On a device the kernel only stays in bounds; here the host can still look.
    if let Some(pick) = picks.as_u32()?.iter().find(|&&p| p as usize >= tokens) {
        return Err(Error::op("gather", format!("pick {pick} is beyond the {tokens} tokens")));
    }
    Ok((Arc::new(Gather), vec![Some(x), Some(picks)]))
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(17);
    let mut cases = Vec::new();
    for (batch, tokens, cols, count) in
        [(1, 1, 1, 1), (2, 7, 21, 3), (3, 5, 64, 1), (2, 64, 65, 67), (1, 131, 48, 5)]
    {
        let x = rng.tensor([batch, tokens, cols]);
        let picks = (0..batch * count).map(|_| rng.below(tokens) as u32).collect();
        let picks = Tensor::u32([batch, count], picks).ok();
        let label = format!("{count} of {batch}x{tokens}x{cols}");
        cases.push(Case::new(label, Gather, vec![Some(x), picks], Tolerance::exact()));
    }
    cases
}

fn long_cases() -> Vec<Case> {
    let x = Rng::new(17).tensor([1, 3, elementwise::LONG]);
    let picks = Tensor::u32([1, 2], vec![2, 0]).ok();
    let label = format!("2 of {}", x.shape());
    vec![Case::new(label, Gather, vec![Some(x), picks], Tolerance::exact())]
}
