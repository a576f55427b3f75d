//! `positions[b, t] = pad` where `ids[b, t] = pad`, else `pad + |{s <= t: ids[b, s] != pad}|`:
//! positions that begin behind the pad id and leave padding out, wherever it stands.
//!
//! Shapes: ids u32 `[B, T]`; positions u32 `[B, T]`. Source: RoBERTa (Liu et al. 2019), whose
//! position table has its first token in row `pad + 1`, after fairseq's `make_positions`.

use std::sync::Arc;

use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::rounds;
use super::rows;
use super::single::Single;
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::{Spec, fold};
use crate::tensor::{DType, SymMeta, Tensor};

/// Positions that leave padding out; operand `ids`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaddedPositions {
    /// Id of padding, and its position.
    pub pad: u32,
}

crate::params! {
    /// Twin of `Params` in `shaders/padded_positions.wgsl`.
    struct Params { rows: u32, cols: u32, pad: u32 }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("padded_positions"), Params::FIELDS, spec, dispatch, rounds)];

/// Invocations per workgroup, each with a run of a row's columns, as in the shader.
const THREADS: usize = 64;

fn spec(_op: &PaddedPositions, _call: &Call<'_>) -> Spec {
    Spec::new()
}

fn dispatch(op: &PaddedPositions, call: &Call<'_>) -> Dispatch {
    let ids = call.input(0).shape;
    let (rows, cols) = (ids.rows(), ids.last());
    let params = Params { rows: rows as u32, cols: cols as u32, pad: op.pad };
    Dispatch::new(&params, fold(rows))
}

fn rounds(_op: &PaddedPositions, call: &Call<'_>) -> u64 {
    let run = call.input(0).shape.last().div_ceil(THREADS);
    2 * rounds::of_loop(run, 0) + rounds::of_loop(THREADS - 1, 0)
}

impl Op for PaddedPositions {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["ids"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["positions"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("padded_positions", message));
        match inputs {
            [Some(ids)] if ids.dtype == DType::U32 && ids.dims.len() == 2 => Ok(vec![ids.clone()]),
            [Some(ids)] => fail(format!("ids {ids} must be u32[batch, tokens]")),
            _ => fail("expected operand ids".to_owned()),
        }
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let ids = args.need(0)?;
        let mut positions = Vec::with_capacity(ids.shape().numel());
        for row in ids.as_u32()?.chunks_exact(ids.shape().last().max(1)) {
            let mut seen = 0;
            for &id in row {
                seen += u32::from(id != self.pad);
                positions.push(if id == self.pad { self.pad } else { self.pad + seen });
            }
        }
        Ok(vec![Tensor::u32(ids.shape(), positions)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(call.input(0).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "padded_positions",
    aliases: &[],
    summary: "positions = pad for padding, else pad + the real tokens so far",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let ids = request.need(&["ids", "input_ids"])?;
    let pad = request.get("pad")?.unwrap_or(1);
    Ok((Arc::new(PaddedPositions { pad }), vec![Some(ids)]))
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(15);
    let mut cases = Vec::new();
    let mut push = |label: String, pad, shape: [usize; 2], id: &mut dyn FnMut(usize) -> u32| {
        let ids = Tensor::u32(shape, (0..shape[0] * shape[1]).map(id).collect());
        let op = PaddedPositions { pad };
        cases.push(Case::new(label, op, vec![ids.ok()], Tolerance::exact()));
    };
    for (rows, cols) in rows::CASES {
        push(format!("{rows}x{cols}"), 1, [rows, cols], &mut |_| rng.below(4) as u32);
        // Real tokens first, one more in every row.
        let right = &mut |i: usize| if i % cols > i / cols { 0 } else { 7 };
        push(format!("{rows}x{cols}, padded on the right"), 0, [rows, cols], right);
    }
    push("all padding".to_owned(), 1, [2, 70], &mut |_| 1);
    push("no padding".to_owned(), 5, [3, 67], &mut |i| i as u32 + 6);
    cases
}

fn long_cases() -> Vec<Case> {
    let mut rng = Rng::new(15);
    let case = |(rows, cols): (usize, usize)| {
        let ids = (0..rows * cols).map(|_| rng.below(4) as u32).collect();
        let ids = Tensor::u32([rows, cols], ids).ok();
        let op = PaddedPositions { pad: 1 };
        Case::new(format!("{rows}x{cols}"), op, vec![ids], Tolerance::exact())
    };
    rows::LONG.map(case).into()
}
