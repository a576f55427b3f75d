//! How a result is judged: bounds on its error against the f64 reference.

use super::kernel::Precision;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Allowed error against the f64 reference. All three bounds must hold, and NaN never passes
/// unless the reference is NaN at the same place.
#[derive(Clone, Debug)]
pub struct Tolerance {
    /// Bound on sum((y - ref)^2) / sum(ref^2).
    pub nmse: f64,
    /// Per element: |y - ref| <= abs + rel * |ref|.
    pub abs: f64,
    /// See `abs`.
    pub rel: f64,
    /// Per element of the first result, added to the right-hand side: a bound that depends on
    /// the operands, such as `c u sum|a_i b_i|` for a dot product.
    pub bound: Option<Vec<f64>>,
}

impl Tolerance {
    /// The rule for f32 results: NMSE 1e-10, and per element `abs + rel |ref|`.
    pub fn f32(abs: f64, rel: f64) -> Self {
        Self { nmse: 1e-10, abs, rel, bound: None }
    }

    /// Bit-for-bit equality of values, for ops that only move or select data.
    pub fn exact() -> Self {
        Self { nmse: 0.0, abs: 0.0, rel: 0.0, bound: None }
    }

    /// The same for a kernel of this precision. One that rounds its multiplicands to f16 may err
    /// by 2^-11 of each, where the f32 bounds allow for 2^-24: all are 2^13 times as wide, and the
    /// mean as the square of the roundoff says.
    #[must_use]
    pub fn at(&self, precision: Precision) -> Self {
        let mut out = self.clone();
        if precision == Precision::Fast {
            const WIDER: f64 = 8192.0;
            out.nmse = out.nmse.max(precision.nmse());
            (out.abs, out.rel) = (out.abs * WIDER, out.rel * WIDER);
            out.bound = out.bound.map(|b| b.iter().map(|v| v * WIDER).collect());
        }
        out
    }

    /// The same for a result that is rounded to f16 when it is stored: half a unit in the last place
    /// more, 2^-11 of the value or, below the smallest normal one, 2^-25.
    #[must_use]
    pub fn stored_in_f16(&self) -> Self {
        let roundoff = 2f64.powi(-11);
        Self {
            nmse: self.nmse.max(Precision::Fast.nmse()),
            abs: self.abs + 2f64.powi(-25),
            rel: self.rel + roundoff,
            bound: self.bound.clone(),
        }
    }

    /// The same with a bound per element of the first result.
    #[must_use]
    pub fn with_bound(mut self, bound: Vec<f64>) -> Self {
        self.bound = Some(bound);
        self
    }

    /// Judges result `index` of a call.
    pub fn compare(&self, got: &Tensor, want: &Tensor, index: usize) -> Result<Comparison> {
        if got.shape() != want.shape() {
            let message = format!("result {index} has shape {}, not {}", got.shape(), want.shape());
            return Err(Error::Argument(message));
        }
        if let (Ok(got), Ok(want)) = (got.as_u32(), want.as_u32()) {
            let wrong = got.iter().zip(want).position(|(g, w)| g != w);
            return Ok(Comparison {
                nmse: if wrong.is_some() { f64::INFINITY } else { 0.0 },
                max_abs: if wrong.is_some() { f64::INFINITY } else { 0.0 },
                worst: wrong,
                passed: wrong.is_none(),
            });
        }
        let (got, want) = (got.to_f32()?, want.to_f32()?);
        let (mut error, mut scale, mut max_abs) = (0.0f64, 0.0f64, 0.0f64);
        let mut worst: Option<(usize, f64)> = None;
        for (i, (&g, &w)) in got.iter().zip(want.iter()).enumerate() {
            let (g, w) = (f64::from(g), f64::from(w));
            if g.is_nan() && w.is_nan() || g == w {
                scale += if w.is_finite() { w * w } else { 0.0 };
                continue;
            }
            let difference = (g - w).abs();
            // NaN or infinity where the reference has a number.
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            error += difference * difference;
            scale += w * w;
            max_abs = max_abs.max(difference);
            let extra = self.bound.as_ref().filter(|_| index == 0).map_or(0.0, |b| b[i]);
            let allowed = self.abs + self.rel * w.abs() + extra;
            let excess = if allowed > 0.0 { difference / allowed } else { f64::INFINITY };
            if worst.is_none_or(|(_, e)| excess > e) {
                worst = Some((i, excess));
            }
        }
        let nmse = if error == 0.0 { 0.0 } else { error / scale };
        let within = worst.is_none_or(|(_, excess)| excess <= 1.0);
        // A tiny all-cancelling result has no meaningful NMSE; the element bound decides there.
        let nmse_ok = nmse <= self.nmse || (self.bound.is_some() && within);
        let passed = within && nmse_ok && !nmse.is_nan();
        Ok(Comparison { nmse, max_abs, worst: worst.map(|(i, _)| i), passed })
    }
}

/// How far a result is from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Normalised mean squared error.
    pub nmse: f64,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Flat index of the element furthest beyond its bound.
    pub worst: Option<usize>,
    /// Whether all bounds hold.
    pub passed: bool,
}
