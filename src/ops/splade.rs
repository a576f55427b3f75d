//! Weights of a vocabulary's words for a text: the head of sparse embeddings.
//!
//! `y[b, v] = max_t mask[b, t] ln(1 + max(x[b, t, v], 0))`. Shapes: x [B, T, V], mask u32 [B, T],
//! y [B, V]. A text without tokens has no weights: 0.
//! Source: Formal et al. 2021, "SPLADE v2", the pooling by maximum.

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

/// Weights of words by the logits of every token; operands `x mask?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splade;

crate::params! {
    /// Twin of `Params` in `shaders/splade.wgsl`.
    struct Params { batch: u32, tokens: u32, cols: u32 }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("splade"), Params::FIELDS, spec, dispatch, rounds)];

/// Columns per workgroup, as in the shader.
const COLUMNS: usize = 64;

/// Tokens that an invocation looks at per round, as in the shader.
const STEPS: usize = 8;

fn spec(_op: &Splade, call: &Call<'_>) -> Spec {
    Spec::new().set("HAS_MASK", call.has(MASK))
}

/// Sequences, tokens and columns.
fn sizes(call: &Call<'_>) -> [usize; 3] {
    let shape = call.input(X).shape;
    [0, 1, 2].map(|i| shape.dims().get(i).copied().unwrap_or(1))
}

fn dispatch(_op: &Splade, call: &Call<'_>) -> Dispatch {
    let [batch, tokens, cols] = sizes(call);
    let params = Params { batch: batch as u32, tokens: tokens as u32, cols: cols as u32 };
    Dispatch::new(&params, fold(batch * cols.div_ceil(COLUMNS)))
}

fn rounds(_op: &Splade, call: &Call<'_>) -> u64 {
    rounds::of_loop(sizes(call)[1].div_ceil(STEPS), 0)
}

impl Op for Splade {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x", "mask"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("splade", message));
        let [Some(x), mask] = inputs else {
            return fail("expected operands x, mask?".to_owned());
        };
        let &[batch, tokens, cols] = x.dims.as_slice() else {
            return fail(format!("x {x} must be [batch, tokens, vocabulary]"));
        };
        if let Some(m) = mask.as_ref().filter(|m| **m != SymMeta::u32([batch, tokens])) {
            return fail(format!("mask {m} must be u32[batch, tokens] of x {x}"));
        }
        Ok(vec![SymMeta::f32([batch, cols])])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(X)?;
        let &[batch, tokens, cols] = x.shape().dims() else {
            return Err(Error::op("splade", format!("x {} must have three dimensions", x.meta())));
        };
        let mask = args.get(MASK).map(Tensor::as_u32).transpose()?;
        let values = x.as_f32()?;
        let mut y = vec![0f32; batch * cols];
        for (row, y) in y.chunks_exact_mut(cols).enumerate() {
            for t in (0..tokens).filter(|t| mask.is_none_or(|m| m[row * tokens + t] != 0)) {
                let words = &values[(row * tokens + t) * cols..][..cols];
                for (y, &logit) in y.iter_mut().zip(words) {
                    *y = y.max(f64::from(logit).max(0.0).ln_1p() as f32);
                }
            }
        }
        Ok(vec![Tensor::f32([batch, cols], y)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(call.input(X).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "splade",
    aliases: &[],
    summary: "y = max over the mask's tokens of ln(1 + max(x, 0))",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let inputs = vec![Some(request.need(&["x"])?), request.take(&["mask", "attention_mask"])];
    Ok((Arc::new(Splade), inputs))
}

/// The sum of 1 and a logit is rounded, then a logarithm of at most a few units is taken: WGSL allows
/// it 2^-21 where it is small.
fn bound() -> Tolerance {
    Tolerance::f32(1e-6, 1e-6)
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(15);
    let mut cases = Vec::new();
    for (batch, tokens, cols) in [(1, 1, 1), (3, 9, 48), (2, 64, 63), (2, 5, 64), (1, 131, 65)] {
        let x = rng.tensor_with([batch, tokens, cols], |r| 4.0 * r.normal() - 2.0);
        let mask = (0..batch * tokens).map(|i| u32::from(i % tokens <= i / tokens * 4)).collect();
        let mask = Tensor::u32([batch, tokens], mask).ok();
        let label = format!("{batch}x{tokens}x{cols}");
        cases.push(Case::new(
            format!("{label} masked"),
            Splade,
            vec![Some(x.clone()), mask],
            bound(),
        ));
        cases.push(Case::new(label, Splade, vec![Some(x), None], bound()));
    }
    let x = rng.tensor_with([2, 3, 8], |r| r.normal());
    let none = Tensor::u32([2, 3], vec![0, 0, 0, 1, 0, 1]).ok();
    cases.push(Case::new("a row without tokens", Splade, vec![Some(x), none], bound()));
    let below = rng.tensor_with([1, 4, 70], |r| -r.normal().abs());
    cases.push(Case::new("nothing above 0", Splade, vec![Some(below), None], Tolerance::exact()));
    cases
}

fn long_cases() -> Vec<Case> {
    let mut rng = Rng::new(15);
    let tokens = 262_144;
    // The last token is the largest, so that a loop that is left early has another answer.
    let mut t = 0;
    let x = rng.tensor_with([1, tokens, 3], |r| {
        t += 1;
        t as f32 / tokens as f32 + 0.01 * r.normal()
    });
    vec![Case::new(format!("1x{tokens}x3"), Splade, vec![Some(x), None], bound())]
}
