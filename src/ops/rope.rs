//! Rotary position embedding: each pair (a, b) of a head's columns becomes
//! `(a cos - b sin, b cos + a sin)` with the pair's angle at the token's position.
//!
//! Shapes: x `[.., H, T, D]`, or `[.., T, row]` with heads side by side from a given column on
//! (so that it may be a slice of packed queries, keys and values); y `[.., H, T, D]`,
//! respectively `[.., T, H * D]`. cos, sin `[P, rotary_dim / 2]` from
//! [`rope_tables`](super::rope_tables); positions u32 `[T]` or `[B, T]`, optional.
//! Source: Su et al. 2021, "RoFormer"; the two pairings are those of GPT-NeoX and GPT-J.

use std::str::FromStr;
use std::sync::Arc;

use super::elementwise;
use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::position::{RopeScaling, rope_tables};
use super::request::Request;
use super::rng::Rng;
use super::single::{Single, no_loops};
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::Spec;
use crate::tensor::{DType, Dim, Shape, Sizes, SymMeta, Tensor};

const X: usize = 0;
const COS: usize = 1;
const SIN: usize = 2;
const POSITIONS: usize = 3;

/// Which columns rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// i and i + rotary_dim / 2 (GPT-NeoX, Llama).
    Neox,
    /// 2i and 2i + 1 (GPT-J).
    GptJ,
}

impl FromStr for Pairing {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "neox" => Ok(Self::Neox),
            "gptj" => Ok(Self::GptJ),
            _ => Err(Error::Argument(format!("unknown rope style `{name}`; there are neox, gptj"))),
        }
    }
}

/// Rotary position embedding; operands `x cos sin positions?`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Heads to rotate.
    pub n_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Columns of a head that rotate; the others are copied.
    pub rotary_dim: usize,
    /// Which columns rotate together.
    pub pairing: Pairing,
    /// Whether x is `[.., H, T, D]` instead of `[.., T, row]`.
    pub heads_first: bool,
    /// The first head's first column in a row of `[.., T, row]`.
    pub column: usize,
    /// Position of the first token, when `positions` is absent.
    pub offset: Dim,
}

crate::params! {
    /// Twin of `Params` in `shaders/rope.wgsl`.
    struct Params {
        pairs: u32,
        tokens: u32,
        row: u32,
        column: u32,
        offset: u32,
        batch_positions: u32,
        table_rows: u32,
    }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("rope"), Params::FIELDS, spec, dispatch, no_loops)];

impl Rope {
    /// Tokens per sequence of x.
    fn tokens(&self, x: Shape) -> usize {
        x.dims().iter().rev().nth(1).copied().unwrap_or(1)
    }
}

fn spec(op: &Rope, call: &Call<'_>) -> Spec {
    Spec::new()
        .set("HEAD_DIM", op.head_dim as u32)
        .set("ROTARY_DIM", op.rotary_dim as u32)
        .set("N_HEADS", op.n_heads as u32)
        .set("HEADS_FIRST", op.heads_first)
        .set("INTERLEAVED", op.pairing == Pairing::GptJ)
        .set("HAS_POSITIONS", call.has(POSITIONS))
}

fn dispatch(op: &Rope, call: &Call<'_>) -> Dispatch {
    let x = call.input(X).shape;
    let tokens = op.tokens(x);
    let pairs = call.output(0).shape.numel() / 2;
    let shared = call.input(POSITIONS).shape.rank() == 1;
    let params = Params {
        pairs: pairs as u32,
        tokens: tokens as u32,
        row: x.last() as u32,
        column: op.column as u32,
        offset: op.offset.eval(call.sizes) as u32,
        batch_positions: if shared { 0 } else { tokens as u32 },
        table_rows: call.input(COS).shape.rows() as u32,
    };
    Dispatch::new(&params, elementwise::grid(pairs))
}

impl Op for Rope {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x", "cos", "sin", "positions"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("rope", message));
        let [Some(x), Some(cos), Some(sin), positions] = inputs else {
            return fail("expected operands x, cos, sin, positions?".to_owned());
        };
        let Self { n_heads, head_dim, rotary_dim, column, .. } = *self;
        if !head_dim.is_multiple_of(2)
            || !rotary_dim.is_multiple_of(2)
            || !(2..=head_dim).contains(&rotary_dim)
        {
            return fail(format!(
                "head_dim {head_dim} and rotary_dim {rotary_dim} must be even, and rotary_dim \
                 from 2 to head_dim"
            ));
        }
        let half = rotary_dim / 2;
        let table =
            |t: &SymMeta| t.dtype == DType::F32 && t.dims.len() == 2 && t.last() == Some(half);
        if cos != sin || !table(cos) || cos.dims[0] == Dim::Const(0) {
            return fail(format!("cos {cos} and sin {sin} must be f32[positions, {half}]"));
        }
        let rank = x.dims.len();
        let (tokens, lead, y) = if self.heads_first {
            if x.dtype != DType::F32
                || rank < 3
                || x.dims[rank - 3] != Dim::Const(n_heads)
                || x.last() != Some(head_dim)
            {
                return fail(format!("x {x} must be f32[.., {n_heads}, tokens, {head_dim}]"));
            }
            (x.dims[rank - 2], &x.dims[..rank - 3], x.clone())
        } else {
            let width = n_heads * head_dim;
            if x.dtype != DType::F32 || rank < 2 || x.last().is_none_or(|r| r < column + width) {
                return fail(format!(
                    "x {x} must be f32[.., tokens, row] with {n_heads} heads of {head_dim} from \
                     column {column} on"
                ));
            }
            (x.dims[rank - 2], &x.dims[..rank - 2], x.clone().with_last(width))
        };
        if let Some(p) = positions {
            let per_batch = [lead, &[tokens]].concat();
            if p.dtype != DType::U32 || (p.dims != [tokens] && p.dims != per_batch) {
                return fail(format!("positions {p} must be u32, one per token of x {x}"));
            }
        }
        Ok(vec![y])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let (x, cos, sin) = (args.need(X)?, args.need(COS)?, args.need(SIN)?);
        let (h, d, half) = (self.n_heads, self.head_dim, self.rotary_dim / 2);
        let tokens = self.tokens(x.shape());
        let row = x.shape().last();
        let positions = args.get(POSITIONS).map(Tensor::as_u32).transpose()?;
        let offset = self.offset.eval(args.sizes);
        let (cos, sin, from) = (cos.as_f32()?, sin.as_f32()?, x.as_f32()?);
        let batch = match (tokens, self.heads_first) {
            (0, _) => 0,
            (_, true) => x.shape().numel() / (h * tokens * d),
            (_, false) => x.shape().numel() / (tokens * row),
        };
        let mut y = vec![0.0; batch * tokens * h * d];
        for (b, t, head) in (0..batch)
            .flat_map(|b| (0..tokens).flat_map(move |t| (0..h).map(move |head| (b, t, head))))
        {
            let position = match positions {
                Some(p) => p[if p.len() == tokens { t } else { b * tokens + t }] as usize,
                None => offset + t,
            };
            if position >= cos.len() / half {
                let message = format!("position {position}; cos has {} rows", cos.len() / half);
                return Err(Error::op("rope", message));
            }
            let (from_start, to_start) = if self.heads_first {
                let start = ((b * h + head) * tokens + t) * d;
                (start, start)
            } else {
                let at = b * tokens + t;
                (at * row + self.column + head * d, (at * h + head) * d)
            };
            let source = &from[from_start..from_start + d];
            let target = &mut y[to_start..to_start + d];
            target.copy_from_slice(source);
            for i in 0..half {
                let (first, second) = match self.pairing {
                    Pairing::Neox => (i, i + half),
                    Pairing::GptJ => (2 * i, 2 * i + 1),
                };
                let (c, s) = (cos[position * half + i], sin[position * half + i]);
                let (c, s) = (f64::from(c), f64::from(s));
                let (a, b) = (f64::from(source[first]), f64::from(source[second]));
                target[first] = (a * c - b * s) as f32;
                target[second] = (b * c + a * s) as f32;
            }
        }
        let shape = if self.heads_first { x.shape() } else { x.shape().with_last(h * d) };
        Ok(vec![Tensor::f32(shape, y)?])
    }

    fn at_column(&self, i: usize, column: usize) -> Option<Arc<dyn Op>> {
        let op = Self { column: self.column + column, ..self.clone() };
        (i == X && !self.heads_first).then(|| Arc::new(op) as Arc<dyn Op>)
    }

    fn dims(&self) -> Vec<Dim> {
        vec![self.offset]
    }

    fn drawn(&self, rng: &mut Rng) -> Option<Arc<dyn Op>> {
        let pairing = if rng.below(2) == 0 { Pairing::GptJ } else { Pairing::Neox };
        let offset = Dim::Const(rng.below(4));
        Some(Arc::new(Self { pairing, offset, ..self.clone() }))
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        let y = call.output(0);
        Cost { flops: 3.0 * y.shape.numel() as f64, bytes: 2.0 * y.bytes() as f64 }
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "rope",
    aliases: &[],
    summary: "rotary position embedding of x [.., heads, tokens, head_dim]",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

/// The tables are made for just the positions given, which `positions` then counts through.
fn build(request: &mut Request) -> Result<Built> {
    let x = request.need(&["x"])?;
    let &[.., n_heads, tokens, head_dim] = x.shape().dims() else {
        let message = format!("x {} must be [.., heads, tokens, head_dim]", x.meta());
        return Err(Error::op("rope", message));
    };
    request.get::<usize>("head_dim")?;
    let rotary_dim = request.get("rotary_dim")?.unwrap_or(head_dim);
    let theta = request.get("theta")?.unwrap_or(10_000.0);
    let scaling = request.get("rope_scaling")?.unwrap_or_default();
    let positions = match request.take(&["positions", "position_ids"]) {
        Some(positions) => positions,
        None => Tensor::u32([tokens], (0..tokens as u32).collect())?,
    };
    let wanted = positions.as_u32()?.iter().map(|&p| p as usize);
    let (cos, sin) = rope_tables(theta, rotary_dim, wanted, scaling)?;
    let shape = positions.shape();
    let rows = Tensor::u32(shape, (0..shape.numel() as u32).collect())?;
    let op = Rope {
        n_heads,
        head_dim,
        rotary_dim,
        pairing: request.get("style")?.unwrap_or(Pairing::Neox),
        heads_first: true,
        column: 0,
        offset: 0.into(),
    };
    Ok((Arc::new(op), vec![Some(x), Some(cos), Some(sin), Some(rows)]))
}

/// Two products and a sum of values of order one.
fn tolerance() -> Tolerance {
    Tolerance::f32(1e-6, 1e-6)
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(6);
    let mut cases = Vec::new();
    for (pairing, head_dim, rotary_dim, tokens) in [
        (Pairing::Neox, 2, 2, 1),
        (Pairing::Neox, 64, 64, 7),
        (Pairing::Neox, 24, 6, 13),
        (Pairing::GptJ, 64, 64, 7),
        (Pairing::GptJ, 80, 20, 5),
    ] {
        let tables = rope_tables(1e4, rotary_dim, 0..40, RopeScaling::None);
        let (cos, sin) = tables.unwrap_or_else(|e| unreachable!("{e}"));
        let op = Rope {
            n_heads: 3,
            head_dim,
            rotary_dim,
            pairing,
            heads_first: true,
            column: 0,
            offset: 0.into(),
        };
        let what = format!("{pairing:?} {rotary_dim} of {head_dim}, {tokens} tokens");
        let mut push = |label: String, op: Rope, x: Tensor, positions: Option<Tensor>, offset| {
            let inputs = vec![Some(x), Some(cos.clone()), Some(sin.clone()), positions];
            let case = Case::new(label, op, inputs, tolerance());
            let sizes = Sizes::default().with(crate::tensor::Sym(0), offset);
            cases.push(Case { sizes, ..case });
        };
        let x = rng.tensor([2, 3, tokens, head_dim]);
        push(format!("{what}, heads first"), op.clone(), x, None, 0);

        let ids = (0..2 * tokens).map(|_| rng.below(40) as u32).collect();
        let ids = Tensor::u32([2, tokens], ids).unwrap_or_else(|e| unreachable!("{e}"));
        let x = rng.tensor([2, 3, tokens, head_dim]);
        push(format!("{what}, heads first, positions"), op.clone(), x, Some(ids.clone()), 0);

        // Keys out of packed queries, keys and values, at an offset known per step.
        let packed = Rope { heads_first: false, column: 3 * head_dim, ..op.clone() };
        let x = rng.tensor([2, tokens, 9 * head_dim]);
        let stepped = Rope { offset: crate::tensor::Sym(0).into(), ..packed.clone() };
        push(format!("{what}, packed, offset 11"), stepped, x.clone(), None, 11);
        push(format!("{what}, packed, positions"), packed, x, Some(ids), 0);
    }
    cases
}

fn long_cases() -> Vec<Case> {
    let tokens = 100_003;
    let tables = rope_tables(1e4, 2, 0..tokens, RopeScaling::None);
    let (cos, sin) = tables.unwrap_or_else(|e| unreachable!("{e}"));
    let op = Rope {
        n_heads: 1,
        head_dim: 2,
        rotary_dim: 2,
        pairing: Pairing::Neox,
        heads_first: true,
        column: 0,
        offset: 0.into(),
    };
    let x = Rng::new(6).tensor([1, 1, tokens, 2]);
    let inputs = vec![Some(x), Some(cos), Some(sin), None];
    vec![Case::new(format!("{tokens} tokens"), op, inputs, tolerance())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_beyond_the_tables_is_an_error() {
        let mut case = cases().swap_remove(0);
        case.inputs[POSITIONS] = Tensor::u32([1], vec![40]).ok();
        let message = case.reference().err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("position 40; cos has 40 rows"), "{message}");
    }

    #[test]
    fn heads_that_exceed_the_row_are_an_error() {
        let op = Rope {
            n_heads: 3,
            head_dim: 8,
            rotary_dim: 8,
            pairing: Pairing::Neox,
            heads_first: false,
            column: 1,
            offset: 0.into(),
        };
        let table = Some(SymMeta::f32([5, 4]));
        let inputs = [Some(SymMeta::f32([2, 24])), table.clone(), table, None];
        let message = op.infer(&inputs).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("f32[2, 24]") && message.contains("column 1"), "{message}");
    }
}
