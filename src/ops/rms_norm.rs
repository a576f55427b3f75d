//! `y = h / sqrt(mean(h^2) + eps) * weight`, with `h = x + residual`; Gemma's form multiplies
//! by `1 + weight`.
//!
//! Shapes: x, residual, y, sum `[.., C]`; weight `[C]`, or `[D]` where D divides C: then every
//! D columns (a head) are normalised on their own. `residual` and `weight` may be absent;
//! `sum` is `h`, produced on request for pre-norm models. y may be stored in f16.
//! Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".

use std::sync::Arc;

use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::rows::{self, RowOp, Rows};
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::ParamBytes;
use crate::tensor::{Shape, SymMeta, Tensor};

const X: usize = 0;
const RESIDUAL: usize = 1;
const WEIGHT: usize = 2;

/// Root-mean-square normalisation over the innermost dimension; operands
/// `x residual? weight?`.
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNorm {
    /// Added to the mean square.
    pub eps: f32,
    /// Whether the factor is `1 + weight` (Gemma) instead of `weight`.
    pub unit_offset: bool,
    /// Whether `x + residual` is a second result.
    pub with_sum: bool,
}

crate::params! {
    /// Twin of `Params` in `shaders/rms_norm.wgsl` and `shaders/rms_norm_rows.wgsl`.
    struct Params { rows: u32, cols: u32, rows_per_group: u32, eps: f32 }
}

static KERNELS: [&dyn Kernel; 3] = [
    &Rows::registers("rms_norm_rows", crate::shader!("rms_norm_rows"), &ROWS),
    &Rows::subgroup("rms_norm_subgroup", crate::shader!("rms_norm"), &ROWS),
    &Rows::workgroup("rms_norm", crate::shader!("rms_norm"), &ROWS),
];

static ROWS: RowOp<RmsNorm> = RowOp {
    params: Params::FIELDS,
    vectors: true,
    walks: 2,
    reductions: 1,
    x: by_head,
    spec: |op, call, spec| {
        let spec = spec
            .set("HAS_RESIDUAL", call.has(RESIDUAL))
            .set("HAS_WEIGHT", call.has(WEIGHT))
            .set("UNIT_OFFSET", op.unit_offset);
        if op.with_sum { spec.import("sum_discard", "sum_store") } else { spec }
    },
    pack: |op, x, rows_per_group| {
        let (rows, cols) = (x.rows() as u32, x.last() as u32);
        ParamBytes::of(&Params { rows, cols, rows_per_group, eps: op.eps })
    },
};

/// x as rows of what is normalised together: all columns, or a head.
fn by_head(call: &Call<'_>) -> Shape {
    let x = call.input(X).shape;
    let cols = if call.has(WEIGHT) { call.input(WEIGHT).shape.last() } else { x.last() };
    Shape::from([x.numel().checked_div(cols).unwrap_or(0), cols])
}

impl Op for RmsNorm {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x", "residual", "weight"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        if self.with_sum { &["y", "sum"] } else { &["y"] }
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("rms_norm", message));
        let [Some(x), residual, weight] = inputs else {
            return fail("expected operands x, residual?, weight?".to_owned());
        };
        let cols = rows::columns("rms_norm", "x", x)?;
        if let Some(r) = residual.as_ref().filter(|r| *r != x) {
            return fail(format!("residual {r} must equal x {x}"));
        }
        let fits = |w: &SymMeta| {
            let width = w.last().filter(|&d| d > 0 && cols.is_multiple_of(d));
            width.is_some_and(|d| *w == SymMeta::f32([d]))
        };
        if let Some(w) = weight.as_ref().filter(|w| !fits(w)) {
            return fail(format!("weight {w} must be f32[{cols}], or a head's width, for x {x}"));
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
        let cols = args.get(WEIGHT).map_or(x.shape().last(), |w| w.shape().last());
        let mut sum: Vec<f64> = x.as_f32()?.iter().map(|&v| f64::from(v)).collect();
        if let Some(residual) = args.get(RESIDUAL) {
            sum.iter_mut().zip(residual.as_f32()?).for_each(|(s, &r)| *s += f64::from(r));
        }
        let weight = args.get(WEIGHT).map(Tensor::as_f32).transpose()?;
        let offset = if self.unit_offset { 1.0 } else { 0.0 };
        let mut y = Vec::with_capacity(sum.len());
        for row in sum.chunks_exact(cols) {
            let mean = row.iter().map(|v| v * v).sum::<f64>() / cols as f64;
            let scale = 1.0 / (mean + f64::from(self.eps)).sqrt();
            for (c, v) in row.iter().enumerate() {
                y.push((v * scale * weight.map_or(1.0, |w| offset + f64::from(w[c]))) as f32);
            }
        }
        let mut results = vec![Tensor::f32(x.shape(), y)?];
        if self.with_sum {
            results.push(Tensor::f32(x.shape(), sum.iter().map(|&v| v as f32).collect())?);
        }
        Ok(results)
    }

    fn drawn(&self, rng: &mut Rng) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Self { unit_offset: rng.below(2) == 0, ..self.clone() }))
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(4.0 * call.input(X).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "rms_norm",
    aliases: &[],
    summary: "y = h / sqrt(mean(h^2) + eps) * weight, h = x + residual",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let inputs =
        vec![Some(request.need(&["x"])?), request.take(&["residual"]), request.take(&["weight"])];
    let op = RmsNorm {
        eps: request.get("eps")?.unwrap_or(1e-6),
        unit_offset: request.get("unit_offset")?.unwrap_or(false),
        with_sum: request.get("with_sum")?.unwrap_or(false),
    };
    Ok((Arc::new(op), inputs))
}

/// One sum of squares, no cancellation: a few units in the last place.
fn tolerance() -> Tolerance {
    Tolerance::f32(2e-6, 4e-6)
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(2);
    let mut cases = Vec::new();
    for (rows, cols) in rows::CASES {
        let (x, weight) = (rng.tensor([rows, cols]), rng.tensor([cols]));
        let residual = rng.tensor([rows, cols]);
        cases.push(Case::new(
            format!("{rows}x{cols}"),
            RmsNorm { eps: 1e-6, unit_offset: false, with_sum: false },
            vec![Some(x.clone()), None, Some(weight.clone())],
            tolerance(),
        ));
        cases.push(Case::new(
            format!("{rows}x{cols} plus residual, 1 + weight, with the sum"),
            RmsNorm { eps: 1e-5, unit_offset: true, with_sum: true },
            vec![Some(x), Some(residual), Some(weight)],
            tolerance(),
        ));
    }
    for (rows, cols) in rows::NARROW_CASES {
        let (x, residual) = (rng.tensor([rows, cols]), rng.tensor([rows, cols]));
        let weight = rng.tensor([cols]);
        let op = RmsNorm { eps: 1e-6, unit_offset: false, with_sum: false };
        let inputs = vec![Some(x.clone()), None, Some(weight.clone())];
        cases.push(Case::new(format!("{rows}x{cols}"), op, inputs, tolerance()).narrowed());
        let op = RmsNorm { eps: 1e-5, unit_offset: true, with_sum: true };
        let inputs = vec![Some(x), Some(residual), Some(weight)];
        let label = format!("{rows}x{cols} plus residual, 1 + weight, with the sum");
        cases.push(Case::new(label, op, inputs, tolerance()).narrowed());
    }
    let plain = RmsNorm { eps: 1e-6, unit_offset: false, with_sum: false };
    let weight = rng.tensor_with([96], |r| r.normal() * 6e4);
    let inputs = vec![Some(rng.tensor([5, 96])), None, Some(weight)];
    let label = "beyond the range of f16";
    cases.push(Case::new(label, plain.clone(), inputs, tolerance()).narrowed());
    for (label, size) in [("values of 1e15", 1e15), ("values of 1e-15", 1e-15), ("zeros", 0.0)] {
        let x = rng.tensor_with([3, 96], |r| r.normal() * size);
        cases.push(Case::new(label, plain.clone(), vec![Some(x), None, None], tolerance()));
    }
    for (rows, heads, dim) in [(1, 3, 8), (5, 2, 33), (9, 4, 64)] {
        let (x, weight) = (rng.tensor([rows, heads * dim]), rng.tensor([dim]));
        let label = format!("{rows}x{heads} heads of {dim}");
        let inputs = vec![Some(x), None, Some(weight)];
        cases.push(Case::new(label, plain.clone(), inputs, tolerance()));
    }
    cases
}

fn long_cases() -> Vec<Case> {
    let mut rng = Rng::new(2);
    let case = |(rows, cols): (usize, usize)| {
        let x = rng.tensor([rows, cols]);
        let inputs = vec![Some(x), None, Some(rng.tensor([cols]))];
        let op = RmsNorm { eps: 1e-6, unit_offset: false, with_sum: false };
        Case::new(format!("{rows}x{cols}"), op, inputs, tolerance())
    };
    rows::LONG.map(case).into()
}
