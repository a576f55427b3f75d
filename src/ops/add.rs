//! `y = a + b`, with b of a's shape (residual) or one row `[C]` added to every row (bias).

use std::sync::Arc;

use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::rounds;
use super::single::Single;
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::{Spec, fold};
use crate::tensor::{SymMeta, Tensor};

const A: usize = 0;
const B: usize = 1;

/// Addition; operands `a b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add;

crate::params! {
    /// Twin of `Params` in `shaders/add.wgsl`.
    struct Params { n: u32, period: u32 }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("add"), Params::FIELDS, spec, dispatch, rounds)];

/// Elements that an invocation adds, as in the shader.
const PER_INVOCATION: usize = 4;
/// Elements that a workgroup adds.
const BLOCK: usize = 64 * PER_INVOCATION;

fn spec(_op: &Add, _call: &Call<'_>) -> Spec {
    Spec::new()
}

fn dispatch(_op: &Add, call: &Call<'_>) -> Dispatch {
    let n = call.input(A).shape.numel();
    let params = Params { n: n as u32, period: call.input(B).shape.numel() as u32 };
    Dispatch::new(&params, fold(n.div_ceil(BLOCK)))
}

fn rounds(_op: &Add, _call: &Call<'_>) -> u64 {
    rounds::of_loop(PER_INVOCATION, 0)
}

impl Op for Add {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["a", "b"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let [Some(a), Some(b)] = inputs else {
            return Err(Error::op("add", "expected operands a, b"));
        };
        let row = a.last().is_some_and(|cols| *b == SymMeta::f32([cols]));
        if !a.dtype.is_float() || (a != b && !row) {
            let message = format!("b {b} must be a's shape or its last dimension; a is {a}");
            return Err(Error::op("add", message));
        }
        Ok(vec![a.clone()])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let (a, b) = (args.need(A)?, args.need(B)?);
        let terms = a.as_f32()?.iter().zip(b.as_f32()?.iter().cycle());
        let y = terms.map(|(&a, &b)| (f64::from(a) + f64::from(b)) as f32).collect();
        Ok(vec![Tensor::f32(a.shape(), y)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(call.input(A).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "add",
    aliases: &[],
    summary: "y = a + b, b of a's shape or one row",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    // The goldens say what the shapes say already.
    let _: Option<String> = request.get("broadcast")?;
    Ok((Arc::new(Add), vec![Some(request.need(&["a", "x"])?), Some(request.need(&["b", "y"])?)]))
}

/// One f32 addition: half a unit in the last place.
fn tolerance() -> Tolerance {
    Tolerance::f32(0.0, 6e-8)
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(11);
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (3, 85), (1, 255), (1, 256), (1, 257), (7, 100)] {
        let a = rng.tensor([rows, cols]);
        let (b, row) = (rng.tensor([rows, cols]), rng.tensor([cols]));
        cases.push(Case::new(
            format!("{rows}x{cols}"),
            Add,
            vec![Some(a.clone()), Some(b)],
            tolerance(),
        ));
        cases.push(Case::new(
            format!("{rows}x{cols} plus one row"),
            Add,
            vec![Some(a), Some(row)],
            tolerance(),
        ));
    }
    cases
}

fn long_cases() -> Vec<Case> {
    let mut rng = Rng::new(11);
    let (a, row) = (rng.tensor([2, 262_144]), rng.tensor([262_144]));
    vec![Case::new("2x262144 plus one row", Add, vec![Some(a), Some(row)], tolerance())]
}
