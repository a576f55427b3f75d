//! Test cases as data, and how a result is judged.

use std::sync::Arc;

use super::{Args, Op};
use crate::error::{Error, Result};
use crate::tensor::{Sizes, Tensor};

/// One op instance with operands and the error it may have.
#[derive(Clone)]
pub struct Case {
    /// What the case is about, shapes included.
    pub label: String,
    /// The instance.
    pub op: Arc<dyn Op>,
    /// Operands by position.
    pub inputs: Vec<Option<Tensor>>,
    /// Values of the symbols that attributes refer to.
    pub sizes: Sizes,
    /// Allowed error.
    pub tolerance: Tolerance,
}

impl Case {
    /// A case without symbols.
    pub fn new(
        label: impl Into<String>,
        op: impl Op,
        inputs: Vec<Option<Tensor>>,
        tolerance: Tolerance,
    ) -> Self {
        let sizes = Sizes::default();
        Self { label: label.into(), op: Arc::new(op), inputs, sizes, tolerance }
    }

    /// The reference's results.
    pub fn reference(&self) -> Result<Vec<Tensor>> {
        let tensors: Vec<_> = self.inputs.iter().map(Option::as_ref).collect();
        let args = Args { op: self.op.name(), tensors: &tensors, sizes: &self.sizes };
        self.op.reference(&args)
    }
}

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

/// A small fixed generator (SplitMix64), so that cases are the same on every run and machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that always gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.uniform()).cos()) as f32
    }

    /// An integer below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n.max(1) as u64) as usize
    }

    /// A tensor of standard normal values.
    pub fn tensor<const N: usize>(&mut self, dims: [usize; N]) -> Tensor {
        self.tensor_with(dims, |rng| rng.normal())
    }

    /// A tensor of values drawn by `draw`.
    pub fn tensor_with<const N: usize>(
        &mut self,
        dims: [usize; N],
        mut draw: impl FnMut(&mut Self) -> f32,
    ) -> Tensor {
        let shape = crate::tensor::Shape::from(dims);
        let values = (0..shape.numel()).map(|_| draw(self)).collect();
        Tensor::f32(shape, values).unwrap_or_else(|_| unreachable!("as many values as elements"))
    }
}
