//! `y = scale x`, optionally bent into (-cap, cap): `y = cap tanh(scale x / cap)`.
//!
//! Shapes: x, y `[..]`. T5 scales hidden states before its tied output table (Raffel et al.
//! 2020); Gemma 2 caps its logits (Gemma Team 2024, section 2).

use std::sync::Arc;

use super::elementwise;
use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::single::{Single, no_loops};
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::Spec;
use crate::tensor::{DType, SymMeta, Tensor};

/// Multiplication by a constant, with an optional soft cap; operand `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// The factor.
    pub scale: f32,
    /// Results stay between `-cap` and `cap`.
    pub cap: Option<f32>,
}

crate::params! {
    /// Twin of `Params` in `shaders/scale.wgsl`.
    struct Params { count: u32, scale: f32, cap: f32 }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("scale"), Params::FIELDS, spec, dispatch, no_loops)];

fn spec(op: &Scale, _call: &Call<'_>) -> Spec {
    Spec::new().set("HAS_CAP", op.cap.is_some())
}

fn dispatch(op: &Scale, call: &Call<'_>) -> Dispatch {
    let count = call.output(0).shape.numel();
    let cap = op.cap.unwrap_or(0.0);
    let params = Params { count: count as u32, scale: op.scale, cap };
    Dispatch::new(&params, elementwise::grid(count))
}

impl Op for Scale {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("scale", message));
        let [Some(x)] = inputs else {
            return fail("expected one operand, x".to_owned());
        };
        if x.dtype != DType::F32 {
            return fail(format!("x {x} must be f32"));
        }
        if !self.scale.is_finite() || self.cap.is_some_and(|cap| !(cap.is_finite() && cap > 0.0)) {
            return fail(format!(
                "scale {} must be finite and cap {:?} finite and positive",
                self.scale, self.cap
            ));
        }
        Ok(vec![x.clone()])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(0)?;
        let scaled = |v: &f32| {
            let scaled = f64::from(self.scale) * f64::from(*v);
            self.cap.map(f64::from).map_or(scaled, |cap| cap * (scaled / cap).tanh()) as f32
        };
        Ok(vec![Tensor::f32(x.shape(), x.as_f32()?.iter().map(scaled).collect())?])
    }

    fn drawn(&self, rng: &mut Rng) -> Option<Arc<dyn Op>> {
        // A case without cap is held to the last bit.
        Some(Arc::new(Self { scale: rng.normal(), cap: self.cap.map(|_| 2.5) }))
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(call.output(0).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "scale",
    aliases: &["softcap"],
    summary: "y = scale x, or cap tanh(scale x / cap)",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let x = request.need(&["x"])?;
    let scale = request.get("scale")?.unwrap_or(1.0);
    Ok((Arc::new(Scale { scale, cap: request.get("cap")? }), vec![Some(x)]))
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(43);
    let mut cases = Vec::new();
    for count in elementwise::COUNTS {
        let x = rng.tensor([count]);
        let plain = Scale { scale: 0.125, cap: None };
        cases.push(Case::new(format!("{count}"), plain, vec![Some(x.clone())], Tolerance::exact()));
        // tanh is good to about 1e-5 of its value on drivers that approximate it by exp.
        let capped = Scale { scale: 3.0, cap: Some(2.5) };
        let tolerance = Tolerance::f32(2e-6, 2e-5);
        cases.push(Case::new(format!("{count} capped"), capped, vec![Some(x)], tolerance));
    }
    let extreme = rng.tensor_with([70], |r| r.normal() * 1e30);
    let capped = Scale { scale: 1.0, cap: Some(30.0) };
    let tolerance = Tolerance::f32(1e-6, 1e-6);
    cases.push(Case::new("saturated", capped, vec![Some(extreme)], tolerance));
    cases
}

fn long_cases() -> Vec<Case> {
    let x = Rng::new(43).tensor([elementwise::LONG]);
    let (label, op) = (elementwise::LONG.to_string(), Scale { scale: 0.125, cap: None });
    vec![Case::new(label, op, vec![Some(x)], Tolerance::exact())]
}
