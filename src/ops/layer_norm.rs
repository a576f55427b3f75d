//! `y = (h - mean(h)) / sqrt(var(h) + eps) * weight + bias`, with `h = x + residual`.
//!
//! Shapes: x, residual, y, sum `[.., C]`; weight, bias `[C]`. `residual`, `weight` and `bias`
//! may be absent; `sum` is `h`, produced on request for pre-norm models. Biased variance.
//! y may be stored in f16.
//! Source: Ba, Kiros and Hinton 2016, "Layer Normalization".

use std::sync::Arc;

use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::rows::{self, RowOp, Rows};
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::ParamBytes;
use crate::tensor::{SymMeta, Tensor};

const X: usize = 0;
const RESIDUAL: usize = 1;
const WEIGHT: usize = 2;
const BIAS: usize = 3;

/// Layer normalisation over the innermost dimension; operands `x residual? weight? bias?`.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
    /// Whether `x + residual` is a second result.
    pub with_sum: bool,
}

crate::params! {
    /// Twin of `Params` in `shaders/layer_norm.wgsl` and `shaders/layer_norm_rows.wgsl`.
    struct Params { rows: u32, cols: u32, rows_per_group: u32, eps: f32 }
}

static KERNELS: [&dyn Kernel; 3] = [
    &Rows::registers("layer_norm_rows", crate::shader!("layer_norm_rows"), &ROWS),
    &Rows::subgroup("layer_norm_subgroup", crate::shader!("layer_norm"), &ROWS),
    &Rows::workgroup("layer_norm", crate::shader!("layer_norm"), &ROWS),
];

static ROWS: RowOp<LayerNorm> = RowOp {
    params: Params::FIELDS,
    vectors: true,
    walks: 3,
    reductions: 2,
    x: rows::first_operand,
    spec: |op, call, spec| {
        let spec = spec
            .set("HAS_RESIDUAL", call.has(RESIDUAL))
            .set("HAS_WEIGHT", call.has(WEIGHT))
            .set("HAS_BIAS", call.has(BIAS));
        if op.with_sum { spec.import("sum_discard", "sum_store") } else { spec }
    },
    pack: |op, x, rows_per_group| {
        let (rows, cols) = (x.rows() as u32, x.last() as u32);
        ParamBytes::of(&Params { rows, cols, rows_per_group, eps: op.eps })
    },
};

impl Op for LayerNorm {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x", "residual", "weight", "bias"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        if self.with_sum { &["y", "sum"] } else { &["y"] }
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("layer_norm", message));
        let [Some(x), residual, weight, bias] = inputs else {
            return fail("expected operands x, residual?, weight?, bias?".to_owned());
        };
        let cols = rows::columns("layer_norm", "x", x)?;
        if let Some(r) = residual.as_ref().filter(|r| *r != x) {
            return fail(format!("residual {r} must equal x {x}"));
        }
        for (name, w) in [("weight", weight), ("bias", bias)] {
            if let Some(w) = w.as_ref().filter(|w| **w != SymMeta::f32([cols])) {
                return fail(format!("{name} {w} must be f32[{cols}] for x {x}"));
            }
        }
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            return fail(format!("eps {} must be finite and not negative", self.eps));
        }
        Ok(vec![x.clone(); self.outputs().len()])
    }

    fn stores_f16(&self, i: usize) -> bool {
        // The sum is the residual stream.
        i == 0
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(X)?;
        let cols = x.shape().last();
        let mut sum: Vec<f64> = x.as_f32()?.iter().map(|&v| f64::from(v)).collect();
        if let Some(residual) = args.get(RESIDUAL) {
            sum.iter_mut().zip(residual.as_f32()?).for_each(|(s, &r)| *s += f64::from(r));
        }
        let column = |i| args.get(i).map(Tensor::as_f32).transpose();
        let (weight, bias) = (column(WEIGHT)?, column(BIAS)?);
        let mut y = Vec::with_capacity(sum.len());
        for row in sum.chunks_exact(cols) {
            let mean = row.iter().sum::<f64>() / cols as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / cols as f64;
            let scale = 1.0 / (variance + f64::from(self.eps)).sqrt();
            for (c, v) in row.iter().enumerate() {
                let w = weight.map_or(1.0, |w| f64::from(w[c]));
                let b = bias.map_or(0.0, |b| f64::from(b[c]));
                y.push(((v - mean) * scale * w + b) as f32);
            }
        }
        let mut results = vec![Tensor::f32(x.shape(), y)?];
        if self.with_sum {
            results.push(Tensor::f32(x.shape(), sum.iter().map(|&v| v as f32).collect())?);
        }
        Ok(results)
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(8.0 * call.input(X).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "layer_norm",
    aliases: &[],
    summary: "y = (h - mean) / sqrt(var + eps) * weight + bias, h = x + residual",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let inputs = vec![
        Some(request.need(&["x"])?),
        request.take(&["residual"]),
        request.take(&["weight"]),
        request.take(&["bias"]),
    ];
    let eps = request.get("eps")?.unwrap_or(1e-5);
    let with_sum = request.get("with_sum")?.unwrap_or(false);
    Ok((Arc::new(LayerNorm { eps, with_sum }), inputs))
}

/// Two exact passes in f32, in which a lane adds up at most a few thousand terms: a few units in the
/// last place of results that are of order one.
fn tolerance() -> Tolerance {
    Tolerance::f32(4e-6, 4e-6)
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(1);
    let mut cases = Vec::new();
    for (rows, cols) in rows::CASES {
        let operands = |rng: &mut Rng| {
            (
                rng.tensor([rows, cols]),
                rng.tensor([rows, cols]),
                rng.tensor([cols]),
                rng.tensor([cols]),
            )
        };
        let (x, residual, weight, bias) = operands(&mut rng);
        cases.push(Case::new(
            format!("{rows}x{cols}"),
            LayerNorm { eps: 1e-5, with_sum: false },
            vec![Some(x.clone()), None, Some(weight.clone()), Some(bias.clone())],
            tolerance(),
        ));
        cases.push(Case::new(
            format!("{rows}x{cols} plus residual, with the sum"),
            LayerNorm { eps: 1e-12, with_sum: true },
            vec![Some(x), Some(residual), Some(weight), Some(bias)],
            // With one column the variance is 0 and eps tiny: rounding of x + residual is
            // magnified by 1/sqrt(eps), but x - mean is exactly 0.
            tolerance(),
        ));
    }
    let x = rng.tensor_with([3, 96], |r| r.normal() * 1e4);
    for (rows, cols) in rows::NARROW_CASES {
        let (x, residual, weight, bias) = (
            rng.tensor([rows, cols]),
            rng.tensor([rows, cols]),
            rng.tensor([cols]),
            rng.tensor([cols]),
        );
        let op = LayerNorm { eps: 1e-5, with_sum: false };
        let inputs = vec![Some(x.clone()), None, Some(weight.clone()), Some(bias.clone())];
        cases.push(Case::new(format!("{rows}x{cols}"), op, inputs, tolerance()).narrowed());
        let op = LayerNorm { eps: 1e-5, with_sum: true };
        let inputs = vec![Some(x), Some(residual), Some(weight), Some(bias)];
        let label = format!("{rows}x{cols} plus residual, with the sum");
        cases.push(Case::new(label, op, inputs, tolerance()).narrowed());
    }
    let weight = rng.tensor_with([96], |r| r.normal() * 6e4);
    let inputs = vec![Some(rng.tensor([5, 96])), None, Some(weight), None];
    let op = LayerNorm { eps: 1e-5, with_sum: false };
    cases.push(Case::new("beyond the range of f16", op, inputs, tolerance()).narrowed());
    let plain = LayerNorm { eps: 1e-5, with_sum: false };
    cases.push(Case::new(
        "large values, no affine",
        plain.clone(),
        vec![Some(x), None, None, None],
        tolerance(),
    ));
    let zero = Tensor::f32([2, 40], vec![0.0; 80]);
    let zero = zero.unwrap_or_else(|_| unreachable!("as many values as elements"));
    cases.push(Case::new(
        "zero rows",
        plain,
        vec![Some(zero), None, None, None],
        Tolerance::exact(),
    ));
    cases
}

fn long_cases() -> Vec<Case> {
    let mut rng = Rng::new(1);
    let case = |(rows, cols): (usize, usize)| {
        let [x, residual] = [(); 2].map(|()| Some(rng.tensor([rows, cols])));
        let [weight, bias] = [(); 2].map(|()| Some(rng.tensor([cols])));
        let inputs = vec![x, residual, weight, bias];
        let op = LayerNorm { eps: 1e-5, with_sum: true };
        Case::new(format!("{rows}x{cols} plus residual, with the sum"), op, inputs, tolerance())
    };
    rows::LONG.map(case).into()
}
