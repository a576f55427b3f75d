//! `index = argmax(x)` over the innermost dimension; among equals the first.
//!
//! Shapes: x `[.., C]`; index u32 `[..]`.

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
use crate::tensor::{Shape, SymMeta, Tensor};

/// Position of the largest value of each row; operand `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Argmax;

crate::params! {
    /// Twin of `Params` in `shaders/argmax.wgsl`.
    struct Params { rows: u32, cols: u32 }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("argmax"), Params::FIELDS, spec, dispatch, rounds)];

fn spec(_op: &Argmax, call: &Call<'_>) -> Spec {
    Spec::new().set("THREADS", rows::threads(call.input(0).shape.last(), call.caps))
}

fn dispatch(_op: &Argmax, call: &Call<'_>) -> Dispatch {
    let x = call.input(0).shape;
    let params = Params { rows: x.rows() as u32, cols: x.last() as u32 };
    Dispatch::new(&params, fold(x.rows()))
}

fn rounds(_op: &Argmax, call: &Call<'_>) -> u64 {
    let cols = call.input(0).shape.last();
    let threads = rows::threads(cols, call.caps);
    rounds::of_loop(cols.div_ceil(threads as usize), 0) + rounds::of_tree(threads)
}

impl Op for Argmax {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["index"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let [Some(x)] = inputs else {
            return Err(Error::op("argmax", "expected one operand, x"));
        };
        rows::columns("argmax", "x", x)?;
        Ok(vec![SymMeta::u32(x.lead().iter().copied())])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(0)?;
        let first_largest = |row: &[f32]| {
            let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
            (0..row.len()).fold(0, better) as u32
        };
        let index = x.as_f32()?.chunks_exact(x.shape().last()).map(first_largest).collect();
        let shape = x.shape();
        let lead = shape.dims().split_last().map_or(&[][..], |(_, lead)| lead);
        Ok(vec![Tensor::u32(Shape::new(lead)?, index)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(call.input(0).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "argmax",
    aliases: &[],
    summary: "index = position of the first largest value of each row",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let x = request.need(&["x"])?;
    Ok((Arc::new(Argmax), vec![Some(x)]))
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(11);
    let mut cases = Vec::new();
    let mut push = |label: String, x: Tensor| {
        cases.push(Case::new(label, Argmax, vec![Some(x)], Tolerance::exact()));
    };
    for (rows, cols) in rows::CASES {
        push(format!("{rows}x{cols}"), rng.tensor([rows, cols]));
        // Few distinct values: many ties, in one lane and across lanes.
        let tied = rng.tensor_with([rows, cols], |r| r.below(3) as f32);
        push(format!("{rows}x{cols}, ties"), tied);
    }
    push("all -inf".to_owned(), rng.tensor_with([2, 70], |_| f32::NEG_INFINITY));
    push("both zeros".to_owned(), rng.tensor_with([2, 70], |r| [0.0, -0.0][r.below(2)]));
    cases
}

fn long_cases() -> Vec<Case> {
    let mut rng = Rng::new(11);
    let case = |(rows, cols): (usize, usize)| {
        // Rising, so that a row that is left early has another winner.
        let mut c = 0;
        let x = rng.tensor_with([rows, cols], |r| {
            c += 1;
            c as f32 / cols as f32 + 0.1 * r.normal()
        });
        Case::new(format!("{rows}x{cols}"), Argmax, vec![Some(x)], Tolerance::exact())
    };
    rows::LONG.map(case).into()
}
