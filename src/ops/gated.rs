//! `y = f(gate) * up`: the gated feed-forward's middle (SwiGLU, GEGLU, ReGLU).
//!
//! Shapes: gate, up, y `[.., C]`; or, without `up`, gate `[.., 2C]` whose rows hold the gate
//! first and then what it scales. y may be stored in f16. Source: Shazeer 2020, "GLU Variants
//! Improve Transformer".

use std::sync::Arc;

use super::activation::Activation;
use super::elementwise::{self, RowParams};
use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::single::{Single, no_loops};
use super::store::stored;
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::Spec;
use crate::tensor::{DType, SymMeta, Tensor};

const GATE: usize = 0;
const UP: usize = 1;

/// A gate applied to another tensor, or to the other half of its own rows; operands
/// `gate up?`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gated {
    /// Applied to the gate.
    pub activation: Activation,
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("gated"), RowParams::FIELDS, spec, dispatch, no_loops)];

fn spec(op: &Gated, call: &Call<'_>) -> Spec {
    let spec = Spec::new().feature("ACT", op.activation.code()).set("PACKED", !call.has(UP));
    stored(spec, call, false)
}

fn dispatch(_op: &Gated, call: &Call<'_>) -> Dispatch {
    elementwise::dispatch_rows(call)
}

impl Op for Gated {
    fn entry(&self) -> &'static Entry {
        match self.activation {
            Activation::Silu => &SWIGLU,
            Activation::GeluErf => &GEGLU,
            Activation::GeluTanh => &GEGLU_TANH,
            Activation::Relu => &REGLU,
            _ => &OTHER,
        }
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["gate", "up"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op(self.name(), message));
        let [Some(gate), up] = inputs else {
            return fail("expected operands gate, up?".to_owned());
        };
        if gate.dtype != DType::F32 {
            return fail(format!("gate {gate} must be f32"));
        }
        match (up, gate.last()) {
            (Some(up), _) if up == gate => Ok(vec![gate.clone()]),
            (Some(up), _) => fail(format!("up {up} must equal gate {gate}")),
            (None, Some(cols)) if cols.is_multiple_of(2) => {
                Ok(vec![gate.clone().with_last(cols / 2)])
            }
            (None, _) => {
                fail(format!("gate {gate} without `up` must have an even innermost dimension"))
            }
        }
    }

    fn stores_f16(&self, _i: usize) -> bool {
        true
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let gate = args.need(GATE)?;
        let gated =
            |g: &f32, u: &f32| (self.activation.reference(f64::from(*g)) * f64::from(*u)) as f32;
        if let Some(up) = args.get(UP) {
            let y = gate.as_f32()?.iter().zip(up.as_f32()?).map(|(g, u)| gated(g, u)).collect();
            return Ok(vec![Tensor::f32(gate.shape(), y)?]);
        }
        let cols = gate.shape().last() / 2;
        let mut y = Vec::with_capacity(gate.shape().numel() / 2);
        for row in gate.as_f32()?.chunks_exact((2 * cols).max(1)) {
            let (gate, up) = row.split_at(cols);
            y.extend(gate.iter().zip(up).map(|(g, u)| gated(g, u)));
        }
        Ok(vec![Tensor::f32(gate.shape().with_last(cols), y)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(21.0 * call.output(0).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static SWIGLU: Entry = entry(
    "swiglu",
    "y = silu(gate) * up",
    || cases(Activation::Silu),
    || long_cases(Activation::Silu),
);
/// Registry entry.
pub static GEGLU: Entry = entry(
    "geglu",
    "y = gelu_erf(gate) * up",
    || cases(Activation::GeluErf),
    || long_cases(Activation::GeluErf),
);
/// Registry entry.
pub static GEGLU_TANH: Entry = entry(
    "geglu_tanh",
    "y = gelu_tanh(gate) * up",
    || cases(Activation::GeluTanh),
    || long_cases(Activation::GeluTanh),
);
/// Registry entry.
pub static REGLU: Entry = entry(
    "reglu",
    "y = relu(gate) * up",
    || cases(Activation::Relu),
    || long_cases(Activation::Relu),
);
/// The functions without a name of their own, which only models build: not in the registry.
static OTHER: Entry = entry(
    "gated",
    "y = f(gate) * up",
    || cases(Activation::Sigmoid),
    || long_cases(Activation::Sigmoid),
);

const fn entry(
    name: &'static str,
    summary: &'static str,
    cases: fn() -> Vec<Case>,
    long_cases: fn() -> Vec<Case>,
) -> Entry {
    Entry { name, aliases: &[], summary, kernels: &KERNELS, cases, long_cases, build }
}

fn build(request: &mut Request) -> Result<Built> {
    let activation = match request.op() {
        "swiglu" => Activation::Silu,
        "geglu" => Activation::GeluErf,
        "geglu_tanh" => Activation::GeluTanh,
        _ => Activation::Relu,
    };
    let inputs = vec![Some(request.need(&["gate", "x"])?), request.take(&["up"])];
    Ok((Arc::new(Gated { activation }), inputs))
}

/// The activation's few units in the last place, times one factor.
fn tolerance() -> Tolerance {
    Tolerance::f32(4e-6, 2e-5)
}

fn cases(activation: Activation) -> Vec<Case> {
    let mut rng = Rng::new(5);
    let op = Gated { activation };
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (3, 21), (1, 64), (5, 13), (7, 100), (3, 1031)] {
        let (gate, up) = (rng.tensor([rows, cols]), rng.tensor([rows, cols]));
        let label = format!("{rows}x{cols}");
        cases.push(Case::new(label, op.clone(), vec![Some(gate), Some(up)], tolerance()));
        let packed = rng.tensor([rows, 2 * cols]);
        let label = format!("{rows}x{cols} packed");
        let case = Case::new(label, op.clone(), vec![Some(packed), None], tolerance());
        cases.extend([case.clone(), case.narrowed()]);
    }
    // Products beyond the range of f16.
    let [gate, up] = [(); 2].map(|()| Some(rng.tensor_with([5, 33], |r| r.normal() * 400.0)));
    cases.push(Case::new("large values", op, vec![gate, up], tolerance()).narrowed());
    cases
}

fn long_cases(activation: Activation) -> Vec<Case> {
    let mut rng = Rng::new(5);
    let inputs = [(); 2].map(|()| Some(rng.tensor([1, elementwise::LONG])));
    let label = format!("1x{}", elementwise::LONG);
    vec![Case::new(label, Gated { activation }, inputs.into(), tolerance())]
}
