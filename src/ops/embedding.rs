//! `y[b, t] = scale * table[ids[b, t]] + positions[t + offset] + segments[segment_ids[b, t]]`.
//!
//! Shapes: table [V, C] in f32, f16, bf16 or q8_0; ids u32 [B, T]; positions [P, C] and segments
//! [S, C], as table or, beside a q8_0 one, in f32;
//! segment_ids u32 [B, T]; y f32 [B, T, C]. Positions and segments may be absent; explicit
//! `position_ids` u32 [B, T] replace `t + offset`. Source: Vaswani et al. 2017, section 3.4;
//! Devlin et al. 2018, figure 2.

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
use crate::tensor::{DType, Dim, Meta, Sizes, Sym, SymMeta, Tensor};

const TABLE: usize = 0;
const IDS: usize = 1;
const POSITIONS: usize = 2;
const POSITION_IDS: usize = 3;
const SEGMENTS: usize = 4;
const SEGMENT_IDS: usize = 5;

/// Sum of embeddings; operands
/// `table ids positions? position_ids? segments? segment_ids?`.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Factor on the token's row only.
    pub scale: f32,
    /// Position of token 0 of every row, where `position_ids` is absent.
    pub offset: Dim,
}

impl Default for Embedding {
    fn default() -> Self {
        Self { scale: 1.0, offset: Dim::Const(0) }
    }
}

crate::params! {
    /// Twin of `Params` in `shaders/embedding.wgsl`.
    struct Params {
        rows: u32, cols: u32, tokens: u32, offset: u32,
        first_id: u32, n_ids: u32, n_positions: u32, n_segments: u32, scale: f32,
    }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("embedding"), Params::FIELDS, spec, dispatch, rounds)];

/// Invocations per workgroup, which share the columns of a token, as in the shader.
const THREADS: usize = 64;

fn spec(_op: &Embedding, call: &Call<'_>) -> Spec {
    let table = match call.input(TABLE).dtype {
        DType::F16 => "table_f16",
        DType::BF16 => "table_bf16",
        DType::I8 => "table_q8_0",
        _ => "table_f32",
    };
    Spec::new()
        .import("table_f32", table)
        .set("HAS_POSITIONS", call.has(POSITIONS))
        .set("HAS_POSITION_IDS", call.has(POSITION_IDS))
        .set("HAS_SEGMENTS", call.has(SEGMENTS))
}

fn dispatch(op: &Embedding, call: &Call<'_>) -> Dispatch {
    let (table, ids) = (call.input(TABLE).shape, call.input(IDS).shape);
    let rows_of = |i| call.input(i).shape.rows() as u32;
    let (first_id, n_ids) = call.part.map_or((0, table.rows()), |part| (part.first, part.rows));
    let params = Params {
        rows: ids.numel() as u32,
        cols: table.last() as u32,
        tokens: ids.last() as u32,
        offset: op.offset.eval(call.sizes) as u32,
        first_id: first_id as u32,
        n_ids: n_ids as u32,
        n_positions: rows_of(POSITIONS),
        n_segments: rows_of(SEGMENTS),
        scale: op.scale,
    };
    Dispatch::new(&params, fold(ids.numel()))
}

fn rounds(_op: &Embedding, call: &Call<'_>) -> u64 {
    rounds::of_loop(call.input(TABLE).shape.last().div_ceil(THREADS), 0)
}

impl Op for Embedding {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["table", "ids", "positions", "position_ids", "segments", "segment_ids"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("embedding", message));
        let [Some(table), Some(ids), positions, position_ids, segments, segment_ids] = inputs
        else {
            return fail(format!("expected operands {}", self.inputs().join(", ")));
        };
        let Some(cols) = table.last().filter(|&c| c > 0 && table.dims.len() == 2) else {
            return fail(format!("table {table} must be [vocabulary, width]"));
        };
        if ids.dtype != DType::U32 || ids.dims.is_empty() {
            return fail(format!("ids {ids} must be u32[.., tokens]"));
        }
        for (name, t) in [
            ("table", Some(table)),
            ("positions", positions.as_ref()),
            ("segments", segments.as_ref()),
        ] {
            let Some(t) = t else { continue };
            if t.dims.len() != 2 || t.last() != Some(cols) || t.dims[0] == Dim::Const(0) {
                return fail(format!("{name} {t} must have rows of {cols}, as table {table}"));
            }
            if !t.dtype.is_weight() {
                return fail(format!("{name} {t} must be floating point"));
            }
            // One accessor in the kernel serves all tables; that of q8_0 takes the small ones as f32.
            let blocks = table.dtype == DType::I8 && t.dtype == DType::F32;
            if t.dtype != table.dtype && !blocks || (t.dtype == DType::I8 && name != "table") {
                return fail(format!("{name} {t} must have the dtype of table {table}"));
            }
        }
        for (name, t) in [("position_ids", position_ids), ("segment_ids", segment_ids)] {
            if let Some(t) = t.as_ref().filter(|t| *t != ids) {
                return fail(format!("{name} {t} must have the shape of ids {ids}"));
            }
        }
        if segments.is_some() != segment_ids.is_some() {
            return fail("segments and segment_ids go together".to_owned());
        }
        let dims = ids.dims.iter().copied().chain([Dim::Const(cols)]);
        Ok(vec![SymMeta::f32(dims)])
    }

    fn takes_blocks(&self, i: usize) -> bool {
        i == TABLE
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let (table, ids) = (args.need(TABLE)?, args.need(IDS)?);
        let cols = table.shape().last();
        let tokens = ids.shape().last();
        let words = table.to_f32()?;
        let positions = args.get(POSITIONS).map(Tensor::to_f32).transpose()?;
        let segments = args.get(SEGMENTS).map(Tensor::to_f32).transpose()?;
        let position_ids = args.get(POSITION_IDS).map(Tensor::as_u32).transpose()?;
        let segment_ids = args.get(SEGMENT_IDS).map(Tensor::as_u32).transpose()?;
        let row = |what: &str, rows: &[f32], id: usize| -> Result<std::ops::Range<usize>> {
            let count = rows.len() / cols;
            if id < count {
                Ok(id * cols..(id + 1) * cols)
            } else {
                let message = format!("{what} {id} is beyond the table of {count} rows");
                Err(Error::op("embedding", message))
            }
        };
        let offset = self.offset.eval(args.sizes);
        let mut y = Vec::with_capacity(ids.shape().numel() * cols);
        for (i, &id) in ids.as_u32()?.iter().enumerate() {
            let start = y.len();
            let word = &words[row("token id", &words, id as usize)?];
            y.extend(word.iter().map(|&v| f64::from(v) * f64::from(self.scale)));
            let mut add = |rows: &[f32], range: std::ops::Range<usize>| {
                let terms = y[start..].iter_mut().zip(&rows[range]);
                terms.for_each(|(sum, &v): (&mut f64, _)| *sum += f64::from(v));
            };
            if let Some(positions) = &positions {
                let at = position_ids.map_or(i % tokens + offset, |p| p[i] as usize);
                add(positions, row("position", positions, at)?);
            }
            if let (Some(segments), Some(ids)) = (&segments, segment_ids) {
                add(segments, row("segment id", segments, ids[i] as usize)?);
            }
        }
        let shape = ids.shape().dims().iter().copied().chain([cols]).collect::<Vec<_>>();
        let y = y.into_iter().map(|v| v as f32).collect();
        Ok(vec![Tensor::f32(crate::tensor::Shape::new(&shape)?, y)?])
    }

    fn dims(&self) -> Vec<Dim> {
        vec![self.offset]
    }

    fn drawn(&self, rng: &mut Rng) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Self { scale: rng.normal(), ..self.clone() }))
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        let y = call.output(0);
        let tables = 1 + usize::from(call.has(POSITIONS)) + usize::from(call.has(SEGMENTS));
        let rows = Meta { dtype: call.input(TABLE).dtype, ..y };
        let read = tables * rows.bytes();
        Cost { flops: y.shape.numel() as f64, bytes: (read + y.bytes()) as f64 }
    }

    fn splittable(&self) -> Option<usize> {
        Some(TABLE)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "embedding",
    aliases: &[],
    summary: "y = scale * table[ids] + positions[t + offset] + segments[segment_ids]",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let inputs = vec![
        Some(request.need(&["table", "weight"])?),
        Some(request.need(&["ids", "input_ids"])?),
        request.take(&["positions"]),
        request.take(&["position_ids"]),
        request.take(&["segments"]),
        request.take(&["segment_ids", "token_type_ids"]),
    ];
    // On a device the kernel only stays in bounds; here the host can still look.
    for (table, ids) in [(TABLE, IDS), (POSITIONS, POSITION_IDS), (SEGMENTS, SEGMENT_IDS)] {
        let (Some(table), Some(ids)) = (&inputs[table], &inputs[ids]) else { continue };
        let rows = table.shape().rows();
        if let Some(id) = ids.as_u32()?.iter().find(|&&id| id as usize >= rows) {
            let message = format!("id {id} is beyond a table of {rows} rows");
            return Err(Error::op("embedding", message));
        }
    }
    let scale = request.get("scale")?.unwrap_or(1.0);
    let offset = Dim::Const(request.get("offset")?.unwrap_or(0));
    Ok((Arc::new(Embedding { scale, offset }), inputs))
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(12);
    let mut cases = Vec::new();
    // Two f32 additions of values of order one.
    let tolerance = || Tolerance::f32(3e-7, 2e-7);
    for (batch, tokens, cols, dtype) in [
        (1, 1, 1, DType::F32),
        (2, 7, 48, DType::F32),
        (3, 5, 63, DType::F32),
        (1, 3, 64, DType::F16),
        (2, 2, 66, DType::BF16),
        (2, 5, 33, DType::F16),
        (1, 3, 7, DType::BF16),
        (1, 9, 131, DType::F32),
        (2, 3, 32, DType::I8),
        (3, 5, 96, DType::I8),
    ] {
        let cast = |t: Tensor| t.cast(dtype).unwrap_or_else(|_| unreachable!("float to float"));
        let table = cast(rng.tensor([37, cols]));
        let small = |t| if dtype == DType::I8 { t } else { cast(t) };
        let positions = small(rng.tensor([tokens + 4, cols]));
        let segments = small(rng.tensor([2, cols]));
        let mut draw = |below| {
            let values = (0..batch * tokens).map(|_| rng.below(below) as u32).collect();
            let ids = Tensor::u32([batch, tokens], values);
            ids.unwrap_or_else(|_| unreachable!("as many values as elements"))
        };
        let (ids, types, at) = (draw(37), draw(2), draw(tokens + 4));
        let label = format!("{batch}x{tokens}x{cols} {}", table.meta());
        let only = vec![Some(table.clone()), Some(ids.clone()), None, None, None, None];
        let scaled = Embedding { scale: 6.9282, offset: Dim::Const(0) };
        cases.push(Case::new(format!("{label} scaled"), scaled, only, tolerance()));
        let offset = Sym(0);
        let op = Embedding { scale: 1.0, offset: Dim::Sym(offset) };
        let all = vec![
            Some(table.clone()),
            Some(ids.clone()),
            Some(positions.clone()),
            None,
            Some(segments),
            Some(types),
        ];
        let case = Case::new(format!("{label} positions, segments"), op, all, tolerance());
        cases.push(Case { sizes: Sizes::default().with(offset, 3), ..case });
        let explicit = vec![Some(table), Some(ids), Some(positions), Some(at), None, None];
        let label = format!("{label} explicit positions");
        cases.push(Case::new(label, Embedding::default(), explicit, tolerance()));
    }
    cases
}

fn long_cases() -> Vec<Case> {
    let mut rng = Rng::new(12);
    let tables = [4, 3].map(|rows| rng.tensor([rows, 262_144]));
    let [table, positions] = tables.map(Some);
    let ids = Tensor::u32([1, 2], vec![3, 0]).ok();
    let inputs = vec![table, ids, positions, None, None, None];
    let op = Embedding { scale: 0.5, offset: Dim::Const(1) };
    // An addition of values of order one.
    vec![Case::new("1x2x262144 positions", op, inputs, Tolerance::f32(3e-7, 2e-7))]
}
