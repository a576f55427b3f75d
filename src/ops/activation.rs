//! `y = f(x)`, element by element, for the activation functions transformers use
//! (formulas and sources at [`Activation`]).
//!
//! Shapes: x, y of any shape. y may be stored in f16.

use std::sync::Arc;

use super::elementwise::{self, Params};
use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::single::{Single, no_loops};
use super::store::stored;
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::Spec;
use crate::tensor::{SymMeta, Tensor};

pub use crate::activation::Activation;

impl Activation {
    /// The value of `ACT` in `shaders/shared/activation.wgsl`.
    pub const fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Relu => 1,
            Self::GeluErf => 2,
            Self::GeluTanh => 3,
            Self::Tanh => 4,
            Self::Silu => 5,
            Self::QuickGelu => 6,
            Self::Sigmoid => 7,
        }
    }

    /// The function in f64.
    pub fn reference(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Relu => x.max(0.0),
            // erfc does not cancel where 1 + erf does.
            Self::GeluErf => 0.5 * x * erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
            Self::GeluTanh => {
                let inner = x + 0.044715 * x * x * x;
                x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * inner)
            }
            Self::Tanh => x.tanh(),
            Self::Silu => x * sigmoid(x),
            Self::QuickGelu => x * sigmoid(1.702 * x),
            Self::Sigmoid => sigmoid(x),
        }
    }

    /// The function for the CPU route: f32 in and out, to a few units in the last place of 1.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Relu => x.max(0.0),
            // Half the time of a model's feed-forward would go into the f64 series otherwise.
            Self::GeluErf => 0.5 * x * (1.0 + fast_erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            _ => self.reference(f64::from(x)) as f32,
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Complementary error function to about 1e-15: the series of erf near 0, Lentz's continued
/// fraction beyond (Abramowitz and Stegun 7.1.6 and 7.1.14).
fn erfc(x: f64) -> f64 {
    if x.abs() < 2.0 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > sum.abs() * 1e-18 {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    let z = x.abs();
    // erfc(z) = exp(-z^2) / sqrt(pi) / (z + (1/2) / (z + (2/2) / (z + (3/2) / (z + ...)))).
    let fraction = (1..=100).rev().fold(z, |tail, k| z + 0.5 * f64::from(k) / tail);
    let small = (-z * z).exp() / (std::f64::consts::PI.sqrt() * fraction);
    if x > 0.0 { small } else { 2.0 - small }
}

/// erf to 5e-7, exactly +-1 from 3.95 on; the fit of `shaders/shared/activation.wgsl`.
fn fast_erf(x: f32) -> f32 {
    if x.abs() >= 3.95 {
        return x.signum();
    }
    // Highest power first.
    const P: [f32; 7] = [
        -1.347_735_6e-8,
        4.744_479_6e-6,
        3.813_588_7e-4,
        3.835_565e-3,
        5.430_187_3e-2,
        1.847_090_3e-1,
        std::f32::consts::FRAC_2_SQRT_PI,
    ];
    const Q: [f32; 6] =
        [6.366_968e-5, 1.306_992_6e-3, 1.544_084_6e-2, 1.137_987_3e-1, 4.970_276_4e-1, 1.0];
    let z = x * x;
    let horner = |c: &[f32]| c.iter().fold(0.0, |sum, c| sum * z + c);
    x * horner(&P) / horner(&Q)
}

/// An activation as an op of its own; operand `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Activate {
    /// Which one.
    pub activation: Activation,
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("activation_map"), Params::FIELDS, spec, dispatch, no_loops)];

fn spec(op: &Activate, call: &Call<'_>) -> Spec {
    stored(Spec::new().feature("ACT", op.activation.code()), call, false)
}

fn dispatch(_op: &Activate, call: &Call<'_>) -> Dispatch {
    elementwise::dispatch(call)
}

impl Op for Activate {
    fn entry(&self) -> &'static Entry {
        match self.activation {
            Activation::None => &NONE,
            Activation::Relu => &RELU,
            Activation::GeluErf => &GELU_ERF,
            Activation::GeluTanh => &GELU_TANH,
            Activation::Tanh => &TANH,
            Activation::Silu => &SILU,
            Activation::QuickGelu => &QUICK_GELU,
            Activation::Sigmoid => &SIGMOID,
        }
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        match inputs {
            [Some(x)] if x.dtype == crate::tensor::DType::F32 => Ok(vec![x.clone()]),
            [Some(x)] => Err(Error::op(self.name(), format!("x {x} must be f32"))),
            _ => Err(Error::op(self.name(), "expected one operand, x")),
        }
    }

    fn stores_f16(&self, _i: usize) -> bool {
        true
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(0)?;
        let apply = |&v: &f32| self.activation.reference(f64::from(v)) as f32;
        Ok(vec![Tensor::f32(x.shape(), x.as_f32()?.iter().map(apply).collect())?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(20.0 * call.input(0).shape.numel() as f64, call)
    }
}

/// The identity: never built by name, so not in the registry.
static NONE: Entry = entry(
    Activation::None,
    &[],
    "y = x",
    || cases(Activation::None),
    || long_cases(Activation::None),
);
/// Registry entry.
pub static RELU: Entry = entry(
    Activation::Relu,
    &[],
    "y = max(x, 0)",
    || cases(Activation::Relu),
    || long_cases(Activation::Relu),
);
/// Registry entry.
pub static GELU_ERF: Entry = entry(
    Activation::GeluErf,
    &["gelu"],
    "y = x (1 + erf(x / sqrt 2)) / 2",
    || cases(Activation::GeluErf),
    || long_cases(Activation::GeluErf),
);
/// Registry entry.
pub static GELU_TANH: Entry = entry(
    Activation::GeluTanh,
    &["gelu_new", "gelu_fast", "gelu_pytorch_tanh"],
    "y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2",
    || cases(Activation::GeluTanh),
    || long_cases(Activation::GeluTanh),
);
/// Registry entry.
pub static TANH: Entry = entry(
    Activation::Tanh,
    &[],
    "y = tanh(x)",
    || cases(Activation::Tanh),
    || long_cases(Activation::Tanh),
);
/// Registry entry.
pub static SILU: Entry = entry(
    Activation::Silu,
    &["swish"],
    "y = x sigmoid(x)",
    || cases(Activation::Silu),
    || long_cases(Activation::Silu),
);
/// Registry entry.
pub static QUICK_GELU: Entry = entry(
    Activation::QuickGelu,
    &[],
    "y = x sigmoid(1.702 x)",
    || cases(Activation::QuickGelu),
    || long_cases(Activation::QuickGelu),
);
/// Registry entry.
pub static SIGMOID: Entry = entry(
    Activation::Sigmoid,
    &[],
    "y = 1 / (1 + exp(-x))",
    || cases(Activation::Sigmoid),
    || long_cases(Activation::Sigmoid),
);

const fn entry(
    activation: Activation,
    aliases: &'static [&'static str],
    summary: &'static str,
    cases: fn() -> Vec<Case>,
    long_cases: fn() -> Vec<Case>,
) -> Entry {
    Entry { name: activation.name(), aliases, summary, kernels: &KERNELS, cases, long_cases, build }
}

fn build(request: &mut Request) -> Result<Built> {
    let x = request.need(&["x"])?;
    let activation = request.op().parse()?;
    Ok((Arc::new(Activate { activation }), vec![Some(x)]))
}

/// One exponential or a rational fit, a few units in the last place of a result whose smallest
/// normal neighbours may be flushed to zero; erf's fit adds 4e-7 near its ends.
fn tolerance() -> Tolerance {
    Tolerance::f32(2e-6, 2e-5)
}

fn cases(activation: Activation) -> Vec<Case> {
    let mut rng = Rng::new(7);
    let op = Activate { activation };
    let mut cases: Vec<_> = elementwise::COUNTS
        .iter()
        .map(|&n| {
            let x = rng.tensor_with([n], |r| r.normal() * 4.0);
            Case::new(format!("{n} elements"), op.clone(), vec![Some(x)], tolerance())
        })
        .collect();
    let edges = [0.0, 1e-30, 1e-4, 0.2499, 0.2501, 3.9, 5.6, 9.0, 9.1, 51.0, 87.5, 1e4, 3e38];
    let both: Vec<f32> = edges.iter().flat_map(|&v| [v, -v]).collect();
    let x = Tensor::f32([both.len()], both);
    let x = x.unwrap_or_else(|_| unreachable!("as many values as elements"));
    // 3e38 would drown the other elements' error in the mean; each is held to its own bound.
    let bound = vec![0.0; edges.len() * 2];
    let edges = Case::new("edges", op.clone(), vec![Some(x)], tolerance().with_bound(bound));
    cases.extend([edges.clone(), edges.narrowed()]);
    let x = rng.tensor_with([131], |r| r.normal() * 4.0);
    cases.push(Case::new("131 elements", op, vec![Some(x)], tolerance()).narrowed());
    cases
}

fn long_cases(activation: Activation) -> Vec<Case> {
    let x = Rng::new(7).tensor_with([elementwise::LONG], |r| r.normal() * 4.0);
    let label = format!("{} elements", elementwise::LONG);
    vec![Case::new(label, Activate { activation }, vec![Some(x)], tolerance())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfc_meets_known_values() {
        // Both sides of the switch at 2, as libm's erfc gives them.
        for (x, want) in [
            (0.0, 1.00000000000000e+00),
            (0.5, 4.79500122186953e-01),
            (-1.0, 1.84270079294972e+00),
            (1.999, 4.69844334862949e-03),
            (2.5, 4.06952017444959e-04),
            (5.0, 1.53745979442804e-12),
        ] {
            assert!((erfc(x) - want).abs() <= 1e-12 * want, "erfc({x}) = {}", erfc(x));
        }
    }
}
