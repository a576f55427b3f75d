//! `y[..] = x[.., column]`: one column of the innermost dimension, for heads that give several
//! numbers per token.
//!
//! Shapes: x `[.., C]`; y `[..]`.

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
use crate::tensor::{DType, Dim, Shape, SymMeta, Tensor};

/// One column; operand `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Which one.
    pub column: usize,
}

crate::params! {
    /// Twin of `Params` in `shaders/column.wgsl`.
    struct Params { count: u32, cols: u32, column: u32 }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("column"), Params::FIELDS, spec, dispatch, no_loops)];

fn spec(_op: &Column, _call: &Call<'_>) -> Spec {
    Spec::new()
}

fn dispatch(op: &Column, call: &Call<'_>) -> Dispatch {
    let x = call.input(0).shape;
    let (count, cols) = (x.rows() as u32, x.last() as u32);
    let params = Params { count, cols, column: op.column as u32 };
    Dispatch::new(&params, elementwise::grid(x.rows()))
}

impl Op for Column {
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
        let fail = |message: String| Err(Error::op("column", message));
        let [Some(x)] = inputs else { return fail("expected operand x".to_owned()) };
        let column = self.column;
        match x.dims.split_last() {
            Some((Dim::Const(cols), lead))
                if column < *cols && !lead.is_empty() && x.dtype == DType::F32 =>
            {
                Ok(vec![SymMeta::f32(lead.iter().copied())])
            }
            _ => fail(format!("x {x} must be f32[.., columns] with a column {column}")),
        }
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(0)?;
        let shape = x.shape();
        let lead = shape.dims().split_last().map_or(&[][..], |(_, lead)| lead);
        let rows = x.as_f32()?.chunks_exact(shape.last().max(1));
        let y = rows.filter_map(|row| row.get(self.column).copied()).collect();
        Ok(vec![Tensor::f32(Shape::new(lead)?, y)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost { flops: 0.0, bytes: 2.0 * call.output(0).bytes() as f64 }
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "column",
    aliases: &[],
    summary: "y = x[.., column]",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let x = request.need(&["x"])?;
    let column = request.get("column")?.unwrap_or(0);
    Ok((Arc::new(Column { column }), vec![Some(x)]))
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(16);
    let mut cases = Vec::new();
    let mut push = |x: Tensor, column| {
        let label = format!("column {column} of {}", x.shape());
        cases.push(Case::new(label, Column { column }, vec![Some(x)], Tolerance::exact()));
    };
    for rows in elementwise::COUNTS {
        push(rng.tensor([rows, 2]), 1);
        push(rng.tensor([rows, 3]), 0);
    }
    push(rng.tensor([5, 7, 1]), 0);
    push(rng.tensor([3, 67, 13]), 12);
    cases
}

fn long_cases() -> Vec<Case> {
    let x = Rng::new(16).tensor([2, elementwise::LONG]);
    let (label, op) =
        (format!("the last of {}", x.shape()), Column { column: elementwise::LONG - 1 });
    vec![Case::new(label, op, vec![Some(x)], Tolerance::exact())]
}
