//! `loss = log(sum(exp(x))) - (1 - s) x[target] - s mean(x)` per row, s the label smoothing.
//!
//! Shapes: x f32 `[.., C]`; targets u32 `[..]`; loss f32 `[..]`. A row whose target is the
//! ignored one has loss 0. The formula is `torch.nn.functional.cross_entropy` without reduction.

use std::sync::Arc;

use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::rows::{self, RowOp, Rows};
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::ParamBytes;
use crate::tensor::{DType, SymMeta, Tensor};

const X: usize = 0;
const TARGETS: usize = 1;

/// Cross-entropy of logits against target ids; operands `x targets`. A target that is neither
/// ignored nor a column is an error on the CPU; kernels clamp it.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropy {
    /// The target that marks a row to skip; -100 by custom.
    pub ignored: i32,
    /// Share of the probability spread evenly over all classes.
    pub smoothing: f32,
}

crate::params! {
    /// Twin of `Params` in `shaders/cross_entropy.wgsl`.
    struct Params { rows: u32, cols: u32, rows_per_group: u32, ignored: u32, smoothing: f32 }
}

static KERNELS: [&dyn Kernel; 2] = [
    &Rows::subgroup("cross_entropy_subgroup", crate::shader!("cross_entropy"), &ROWS),
    &Rows::workgroup("cross_entropy", crate::shader!("cross_entropy"), &ROWS),
];

static ROWS: RowOp<CrossEntropy> = RowOp {
    params: Params::FIELDS,
    vectors: false,
    walks: 2,
    reductions: 3,
    x: rows::first_operand,
    spec: |op, _call, spec| spec.set("SMOOTHED", op.smoothing > 0.0),
    pack: |op, x, rows_per_group| {
        ParamBytes::of(&Params {
            rows: x.rows() as u32,
            cols: x.last() as u32,
            rows_per_group,
            ignored: op.ignored as u32,
            smoothing: op.smoothing,
        })
    },
};

impl CrossEntropy {
    /// Errors, naming the first one, when a target is neither ignored nor below `classes`.
    pub fn check_targets(&self, targets: &[u32], classes: usize) -> Result<()> {
        let bad = |&&t: &&u32| t != self.ignored as u32 && t as usize >= classes;
        match targets.iter().find(bad) {
            Some(t) => {
                let message = format!("target {} is not below the {classes} classes", *t as i32);
                Err(Error::op("cross_entropy", message))
            }
            None => Ok(()),
        }
    }
}

impl Op for CrossEntropy {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x", "targets"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["loss"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("cross_entropy", message));
        let [Some(x), Some(targets)] = inputs else {
            return fail("expected operands x, targets".to_owned());
        };
        rows::columns("cross_entropy", "x", x)?;
        if targets.dtype != DType::U32 || targets.dims != x.lead() {
            return fail(format!("targets {targets} must be u32, one per row of x {x}"));
        }
        if !(0.0..=1.0).contains(&self.smoothing) {
            return fail(format!("label smoothing {} must be from 0 to 1", self.smoothing));
        }
        Ok(vec![SymMeta::f32(x.lead().iter().copied())])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let (x, targets) = (args.need(X)?, args.need(TARGETS)?);
        let cols = x.shape().last();
        self.check_targets(targets.as_u32()?, cols)?;
        let smoothing = f64::from(self.smoothing);
        let loss = |(row, &target): (&[f32], &u32)| {
            if target == self.ignored as u32 {
                return 0.0;
            }
            let largest = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
            let sum: f64 = row.iter().map(|&v| (f64::from(v) - largest).exp()).sum();
            let taken = f64::from(row[target as usize]) - largest;
            let mean = if smoothing > 0.0 {
                row.iter().map(|&v| f64::from(v) - largest).sum::<f64>() / cols as f64
            } else {
                0.0
            };
            (sum.ln() - (1.0 - smoothing) * taken - smoothing * mean) as f32
        };
        let rows = x.as_f32()?.chunks_exact(cols).zip(targets.as_u32()?);
        Ok(vec![Tensor::f32(targets.shape(), rows.map(loss).collect())?])
    }

    fn drawn(&self, rng: &mut Rng) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Self { smoothing: rng.uniform() as f32, ..self.clone() }))
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(5.0 * call.input(X).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "cross_entropy",
    aliases: &[],
    summary: "loss = log(sum(exp(x))) - x[target] per row, with label smoothing",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let x = request.need(&["x", "logits"])?;
    let targets = request.need(&["targets", "labels"])?;
    let op = CrossEntropy {
        ignored: request.get("ignore_index")?.unwrap_or(-100),
        smoothing: request.get("label_smoothing")?.unwrap_or(0.0),
    };
    op.check_targets(targets.as_u32()?, x.shape().last())?;
    Ok((Arc::new(op), vec![Some(x), Some(targets)]))
}

/// x[target] and the logarithm of the sum cancel where the target is nearly certain.
fn tolerance() -> Tolerance {
    Tolerance::f32(8e-6, 4e-6)
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(12);
    let mut cases = Vec::new();
    for (rows, cols) in rows::CASES {
        let x = rng.tensor_with([rows, cols], |r| r.normal() * 4.0);
        let skip = |i: usize| i % 4 == 3;
        let pick = |i: usize, rng: &mut Rng| {
            if skip(i) { -100i32 as u32 } else { rng.below(cols) as u32 }
        };
        let targets = (0..rows).map(|i| pick(i, &mut rng)).collect();
        let targets = Tensor::u32([rows], targets).unwrap_or_else(|e| unreachable!("{e}"));
        for smoothing in [0.0, 0.1] {
            let op = CrossEntropy { ignored: -100, smoothing };
            let inputs = vec![Some(x.clone()), Some(targets.clone())];
            let label = format!("{rows}x{cols}, smoothing {smoothing}");
            cases.push(Case::new(label, op, inputs, tolerance()));
        }
    }
    cases
}

fn long_cases() -> Vec<Case> {
    let mut rng = Rng::new(12);
    let mut case = |(rows, cols): (usize, usize)| {
        let x = rng.tensor_with([rows, cols], |r| r.normal() * 4.0);
        let targets = (0..rows).map(|_| rng.below(cols) as u32).collect();
        let inputs = vec![Some(x), Tensor::u32([rows], targets).ok()];
        let op = CrossEntropy { ignored: -100, smoothing: 0.1 };
        Case::new(format!("{rows}x{cols}, smoothing 0.1"), op, inputs, tolerance())
    };
    [rows::LONG[0], rows::LONG[1], (3, 50_257)].map(&mut case).into()
}
