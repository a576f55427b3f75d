//! `positions[b, t] = base + max(offset + t - pads[b], 0)`: where new tokens stand in sequences
//! that are padded on the left, counted without the padding.
//!
//! Shapes: ids u32 `[B, T]` (only its shape is used); pads u32 `[B]`, optional; positions u32
//! `[B, T]`.

use std::sync::Arc;

use super::elementwise;
use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::single::{Single, no_loops};
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::Spec;
use crate::tensor::{DType, Dim, Sizes, Sym, SymMeta, Tensor};

const IDS: usize = 0;
const PADS: usize = 1;

/// Positions of new tokens; operands `ids pads?`.
#[derive(Clone, Debug, PartialEq)]
pub struct Positions {
    /// Tokens before the first new one, padding included.
    pub offset: Dim,
    /// Position of a sequence's first token: 0, or 2 for OPT.
    pub base: usize,
}

crate::params! {
    /// Twin of `Params` in `shaders/positions.wgsl`.
    struct Params { count: u32, tokens: u32, offset: u32, base: u32 }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("positions"), Params::FIELDS, spec, dispatch, no_loops)];

fn spec(_op: &Positions, call: &Call<'_>) -> Spec {
    Spec::new().set("HAS_PADS", call.has(PADS))
}

fn dispatch(op: &Positions, call: &Call<'_>) -> Dispatch {
    let ids = call.input(IDS).shape;
    let params = Params {
        count: ids.numel() as u32,
        tokens: ids.last() as u32,
        offset: op.offset.eval(call.sizes) as u32,
        base: op.base as u32,
    };
    Dispatch::new(&params, elementwise::grid(ids.numel()))
}

impl Op for Positions {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["ids", "pads"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["positions"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("positions", message));
        let [Some(ids), pads] = inputs else {
            return fail("expected operands ids, pads?".to_owned());
        };
        let (&[batch, _], DType::U32) = (ids.dims.as_slice(), ids.dtype) else {
            return fail(format!("ids {ids} must be u32[batch, tokens]"));
        };
        if let Some(pads) = pads.as_ref().filter(|p| **p != SymMeta::u32([batch])) {
            return fail(format!("pads {pads} must be u32[batch] for ids {ids}"));
        }
        Ok(vec![ids.clone()])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let shape = args.need(IDS)?.shape();
        let pads = args.get(PADS).map(Tensor::as_u32).transpose()?;
        let (tokens, offset) = (shape.last(), self.offset.eval(args.sizes));
        let position = |i: usize| {
            let pad = pads.map_or(0, |p| p[i / tokens] as usize);
            (self.base + (offset + i % tokens).saturating_sub(pad)) as u32
        };
        Ok(vec![Tensor::u32(shape, (0..shape.numel()).map(position).collect())?])
    }

    fn dims(&self) -> Vec<Dim> {
        vec![self.offset]
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost { flops: 0.0, bytes: call.output(0).bytes() as f64 }
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "positions",
    aliases: &[],
    summary: "positions = base + max(offset + t - pads[b], 0)",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let inputs = vec![Some(request.need(&["ids"])?), request.take(&["pads"])];
    let op = Positions {
        offset: Dim::Const(request.get("offset")?.unwrap_or(0)),
        base: request.get("base")?.unwrap_or(0),
    };
    Ok((Arc::new(op), inputs))
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (batch, tokens, offset, base) in [(1, 1, 0, 0), (3, 7, 0, 2), (4, 65, 3, 0), (2, 1, 130, 2)]
    {
        let u32s = |shape: &[usize], value: &dyn Fn(usize) -> u32| {
            let shape = crate::tensor::Shape::new(shape).ok()?;
            Tensor::u32(shape, (0..shape.numel()).map(value).collect()).ok()
        };
        let ids = u32s(&[batch, tokens], &|i| i as u32);
        let pads = u32s(&[batch], &|b| [0, 1, 5, 200][b % 4]);
        for (what, pads) in [("", None), (" padded", pads)] {
            let op = Positions { offset: Dim::Sym(Sym(0)), base };
            let label = format!("{batch}x{tokens} from {offset}{what}");
            let case = Case::new(label, op, vec![ids.clone(), pads], Tolerance::exact());
            cases.push(Case { sizes: Sizes::default().with(Sym(0), offset), ..case });
        }
    }
    cases
}

fn long_cases() -> Vec<Case> {
    let ids = Tensor::u32([1, elementwise::LONG], vec![0; elementwise::LONG]).ok();
    let (label, op) =
        (format!("1x{}", elementwise::LONG), Positions { offset: Dim::Const(3), base: 2 });
    vec![Case::new(label, op, vec![ids, None], Tolerance::exact())]
}
