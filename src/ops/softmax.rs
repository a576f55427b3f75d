//! `y = exp(x - max(x)) / sum(exp(x - max(x)))` over the innermost dimension, or its logarithm.
//!
//! Shapes: x, y `[.., C]`. An entry of -inf is masked: weight 0 (-inf in the logarithm). A row
//! masked whole gives 0 for softmax, where the plain formula would give NaN.
//! Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax" (safe form).

use std::sync::Arc;

use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::rows::{self, RowOp, Rows};
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::ParamBytes;
use crate::tensor::{SymMeta, Tensor};

/// Softmax or log-softmax over the innermost dimension; operand `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// Whether the result is the logarithm.
    pub log: bool,
}

crate::params! {
    /// Twin of `Params` in `shaders/softmax.wgsl` and `shaders/softmax_rows.wgsl`.
    struct Params { rows: u32, cols: u32, rows_per_group: u32 }
}

static KERNELS: [&dyn Kernel; 3] = [
    &Rows::registers("softmax_rows", crate::shader!("softmax_rows"), &ROWS),
    &Rows::subgroup("softmax_subgroup", crate::shader!("softmax"), &ROWS),
    &Rows::workgroup("softmax", crate::shader!("softmax"), &ROWS),
];

static ROWS: RowOp<Softmax> = RowOp {
    params: Params::FIELDS,
    vectors: true,
    walks: 3,
    reductions: 2,
    x: rows::first_operand,
    spec: |op, _call, spec| spec.set("LOG", op.log),
    pack: |_op, x, rows_per_group| {
        let (rows, cols) = (x.rows() as u32, x.last() as u32);
        ParamBytes::of(&Params { rows, cols, rows_per_group })
    },
};

impl Op for Softmax {
    fn entry(&self) -> &'static Entry {
        if self.log { &LOG_ENTRY } else { &ENTRY }
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let [Some(x)] = inputs else {
            return Err(Error::op(self.name(), "expected one operand, x"));
        };
        rows::columns(self.name(), "x", x)?;
        Ok(vec![x.clone()])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(0)?;
        let mut y = Vec::with_capacity(x.shape().numel());
        for row in x.as_f32()?.chunks_exact(x.shape().last()) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // A row masked whole has no largest entry to subtract.
            let largest = if largest.is_finite() { f64::from(largest) } else { 0.0 };
            let sum: f64 = row.iter().map(|&v| (f64::from(v) - largest).exp()).sum();
            y.extend(row.iter().map(|&v| {
                let shifted = f64::from(v) - largest;
                match (self.log, sum > 0.0) {
                    (true, true) => (shifted - sum.ln()) as f32,
                    (true, false) => v,
                    (false, true) => (shifted.exp() / sum) as f32,
                    (false, false) => 0.0,
                }
            }));
        }
        Ok(vec![Tensor::f32(x.shape(), y)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(8.0 * call.input(0).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "softmax",
    aliases: &[],
    summary: "y = exp(x - max) / sum(exp(x - max)) over the innermost dimension",
    kernels: &KERNELS,
    cases: || cases(false),
    long_cases: || long_cases(false),
    build,
};

/// Registry entry.
pub static LOG_ENTRY: Entry = Entry {
    name: "log_softmax",
    aliases: &[],
    summary: "y = x - max - log(sum(exp(x - max))) over the innermost dimension",
    kernels: &KERNELS,
    cases: || cases(true),
    long_cases: || long_cases(true),
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let x = request.need(&["x"])?;
    let rank = x.shape().rank() as i64;
    let axis = request.get::<i64>("axis")?.unwrap_or(-1);
    if axis != -1 && axis != rank - 1 {
        let message = format!("axis {axis} of x {}: only the last axis is supported", x.meta());
        return Err(Error::op(request.op(), message));
    }
    Ok((Arc::new(Softmax { log: request.op() == "log_softmax" }), vec![Some(x)]))
}

fn cases(log: bool) -> Vec<Case> {
    let mut rng = Rng::new(3);
    let op = Softmax { log };
    // exp may be wrong by 3 + 2|x| units in the last place (Vulkan's bound), |x| <= 87: 1e-5;
    // results below the smallest normal number may be flushed to 0.
    let tolerance = || if log { Tolerance::f32(4e-6, 2e-6) } else { Tolerance::f32(2e-7, 2e-5) };
    let mut cases = Vec::new();
    for (rows, cols) in rows::CASES {
        let x = rng.tensor_with([rows, cols], |r| r.normal() * 4.0);
        cases.push(Case::new(format!("{rows}x{cols}"), op.clone(), vec![Some(x)], tolerance()));
    }
    let mut push = |label: &str, x: Tensor| {
        cases.push(Case::new(label, op.clone(), vec![Some(x)], tolerance()));
    };
    let masked = |r: &mut Rng| if r.below(2) == 0 { f32::NEG_INFINITY } else { r.normal() };
    push("half of the entries are -inf", rng.tensor_with([5, 68], masked));
    push("every entry is -inf", rng.tensor_with([3, 36], |_| f32::NEG_INFINITY));
    push("every entry is the lowest number", rng.tensor_with([3, 36], |_| f32::MIN));
    let huge = |r: &mut Rng| if r.below(3) == 0 { 3e38 } else { -3e38 };
    push("entries of +-3e38", rng.tensor_with([4, 40], huge));
    push("a common offset of 1e4", rng.tensor_with([4, 40], |r| 1e4 + r.normal()));
    let mut count = 0;
    let one = |_: &mut Rng| {
        count += 1;
        if count % 37 == 5 { -2.0 } else { f32::NEG_INFINITY }
    };
    push("one live entry", rng.tensor_with([2, 37], one));
    cases
}

fn long_cases(log: bool) -> Vec<Case> {
    let mut rng = Rng::new(3);
    let case = |(rows, cols): (usize, usize)| {
        let x = rng.tensor_with([rows, cols], |r| r.normal() * 4.0);
        // A lane adds up to 2^14 terms one after the other, most of them below an ulp of the sum.
        let tolerance = if log { Tolerance::f32(4e-5, 2e-6) } else { Tolerance::f32(2e-7, 5e-5) };
        let tolerance = Tolerance { nmse: 1e-9, ..tolerance };
        Case::new(format!("{rows}x{cols}"), Softmax { log }, vec![Some(x)], tolerance)
    };
    rows::LONG.map(case).into()
}
