//! Rotary positions and the caches of one decoding step in one pass: queries are rotated, keys rotated
//! and appended to their cache, values appended to theirs. It stands for [`Rope`] of queries and keys
//! and a [`CacheAppend`] behind them, with an [`RmsNorm`] of each head in front where there is one, and
//! its reference is those.
//!
//! Shapes: x f32 `[B, T, row]`, the packed projections; k_cache, v_cache `[B, S, G * D]`, f32 or f16;
//! cos, sin f32 `[positions, rotary_dim / 2]`; positions u32 `[T]` or `[B, T]`, if absent `offset + t`;
//! norm f32 `[2 * D]`, the factors for queries, then those for keys; q f32 `[B, T, H * D]`.
//! D and `rotary_dim` are multiples of four. Source: Su et al. 2021, "RoFormer".

use std::sync::Arc;

use super::cache::CacheAppend;
use super::elementwise;
use super::kernel::{Dispatch, Stage};
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::position::{RopeScaling, rope_tables};
use super::request::Request;
use super::rms_norm::RmsNorm;
use super::rng::Rng;
use super::rope::{Pairing, Rope};
use super::rounds;
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::{Spec, fold};
use crate::tensor::{DType, Dim, Shape, Sizes, Sym, SymMeta, Tensor};

const K_CACHE: usize = 0;
const V_CACHE: usize = 1;
const X: usize = 2;
const COS: usize = 3;
const SIN: usize = 4;
const POSITIONS: usize = 5;
const NORM: usize = 6;

/// Rotates packed queries and keys and appends keys and values to their caches; operands
/// `k_cache v_cache x cos sin positions? norm?`, results `k_cache v_cache q`.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeAppend {
    /// The rotation of the queries, whose first column is its `column`. Tokens come first in x.
    pub rope: Rope,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// First column of the keys in a row of x.
    pub k_column: usize,
    /// First column of the values in a row of x.
    pub v_column: usize,
    /// Position of the first new token in the caches.
    pub past: Dim,
    /// The norm of each head, where there is one; the operand `norm` has its factors.
    pub norm: Option<RmsNorm>,
}

crate::params! {
    /// Twin of `Params` in `shaders/shared/rope_unit.wgsl`.
    struct Params {
        count: u32, tokens: u32, context: u32, row: u32,
        q_column: u32, k_column: u32, v_column: u32,
        past: u32, offset: u32, batch_positions: u32, table_rows: u32, eps: f32,
    }
}

static KERNELS: [&dyn Kernel; 2] = [
    &Append {
        name: "rope_append",
        by_head: false,
        stages: [Stage::trusted(crate::shader!("rope_append"), Params::FIELDS)],
    },
    &Append {
        name: "norm_rope_append",
        by_head: true,
        stages: [Stage::trusted(crate::shader!("norm_rope_append"), Params::FIELDS)],
    },
];

/// Invocations of a workgroup without subgroups, as in `shaders/shared/reduce_workgroup.wgsl`.
const THREADS: u32 = 64;

/// An invocation per four columns, or a workgroup per head, whose columns are normalised together.
struct Append {
    name: &'static str,
    by_head: bool,
    stages: [Stage; 1],
}

impl Kernel for Append {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn fits(&self, call: &Call<'_>) -> bool {
        self.by_head == call.has(NORM)
    }

    fn rounds(&self, _stage: usize, call: &Call<'_>) -> Result<u64> {
        if !self.by_head {
            return Ok(0);
        }
        let op: &RopeAppend = call.instance()?;
        let (threads, reduction) = match call.caps.subgroup {
            Some(size) => (size, 0),
            None => (THREADS, rounds::of_tree(THREADS)),
        };
        let walk = rounds::of_loop((op.rope.head_dim / 4).div_ceil(threads as usize), 0);
        Ok(2 * walk + reduction)
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        let op: &RopeAppend = call.instance()?;
        let spec = Spec::new()
            .set("HEAD_DIM", op.rope.head_dim as u32)
            .set("ROTARY_DIM", op.rope.rotary_dim as u32)
            .set("N_HEADS", op.rope.n_heads as u32)
            .set("N_KV_HEADS", op.n_kv_heads as u32)
            .set("INTERLEAVED", op.rope.pairing == Pairing::GptJ)
            .set("HAS_POSITIONS", call.has(POSITIONS));
        let spec = match call.input(K_CACHE).dtype {
            DType::F16 => spec.import("cache_f32", "cache_f16"),
            _ => spec,
        };
        if !self.by_head {
            return Ok(spec);
        }
        let spec = spec.set("UNIT_OFFSET", op.norm.as_ref().is_some_and(|norm| norm.unit_offset));
        Ok(match call.caps.subgroup {
            Some(size) => spec.import("reduce_workgroup", "reduce_subgroup").set("THREADS", size),
            None => spec,
        })
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        let op: &RopeAppend = call.instance()?;
        let dim = |shape: Shape, i: usize| shape.dims().get(i).copied().unwrap_or(0);
        let x = call.input(X).shape;
        let tokens = dim(x, 1);
        let heads = x.rows() * (op.rope.n_heads + 2 * op.n_kv_heads);
        let count = if self.by_head { heads } else { heads * op.rope.head_dim / 4 };
        let shared = call.input(POSITIONS).shape.rank() == 1;
        let params = Params {
            count: count as u32,
            tokens: tokens as u32,
            context: dim(call.input(K_CACHE).shape, 1) as u32,
            row: x.last() as u32,
            q_column: op.rope.column as u32,
            k_column: op.k_column as u32,
            v_column: op.v_column as u32,
            past: op.past.eval(call.sizes) as u32,
            offset: op.rope.offset.eval(call.sizes) as u32,
            batch_positions: if shared { 0 } else { tokens as u32 },
            table_rows: call.input(COS).shape.rows() as u32,
            eps: op.norm.as_ref().map_or(0.0, |norm| norm.eps),
        };
        let grid = if self.by_head { fold(count) } else { elementwise::grid(count) };
        Ok(Dispatch::new(&params, grid))
    }
}

impl RopeAppend {
    /// Whether heads of these widths can be moved four columns at a time.
    pub fn takes(head_dim: usize, rotary_dim: usize) -> bool {
        head_dim.is_multiple_of(4) && rotary_dim.is_multiple_of(4)
    }

    fn of_keys(&self) -> Rope {
        Rope { n_heads: self.n_kv_heads, column: self.k_column, ..self.rope.clone() }
    }

    /// Queries or keys, normalised where there is a norm, then rotated.
    fn rotated(&self, args: &Args<'_>, rope: &Rope, of_keys: bool) -> Result<Vec<Tensor>> {
        let x = args.need(X)?;
        let run = |rope: &Rope, x: &Tensor| {
            let operands = [Some(x), args.get(COS), args.get(SIN), args.get(POSITIONS)];
            rope.reference(&Args { tensors: &operands, ..*args })
        };
        let Some(norm) = &self.norm else { return run(rope, x) };
        let (width, row) = (rope.n_heads * rope.head_dim, x.shape().last());
        let rows = x.as_f32()?.chunks_exact(row);
        let heads = rows.flat_map(|row| &row[rope.column..rope.column + width]).copied().collect();
        let heads = Tensor::f32(x.shape().with_last(width), heads)?;
        let factors = args.need(NORM)?.as_f32()?.chunks_exact(rope.head_dim);
        let factors = factors.skip(usize::from(of_keys)).take(1).flatten().copied().collect();
        let factors = Tensor::f32([rope.head_dim], factors)?;
        let operands = [Some(&heads), None, Some(&factors)];
        let heads = norm.reference(&Args { tensors: &operands, ..*args })?;
        run(&Rope { column: 0, ..rope.clone() }, &heads[0])
    }

    /// What appends rotated keys and the values of x.
    fn append(&self) -> CacheAppend {
        CacheAppend { offset: self.past, k_column: 0, v_column: self.v_column }
    }
}

impl Op for RopeAppend {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["k_cache", "v_cache", "x", "cos", "sin", "positions", "norm"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["k_cache", "v_cache", "q"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("rope_append", message));
        let [Some(k_cache), Some(v_cache), Some(x), cos, sin, positions, norm] = inputs else {
            let message = "expected operands k_cache, v_cache, x, cos, sin, positions?, norm?";
            return fail(message.to_owned());
        };
        let Rope { head_dim, rotary_dim, heads_first, .. } = self.rope;
        if !Self::takes(head_dim, rotary_dim) || heads_first {
            return fail(format!(
                "head_dim {head_dim} and rotary_dim {rotary_dim} must be multiples of four, and \
                 tokens come before heads"
            ));
        }
        let factors = self.norm.as_ref().map(|_| SymMeta::f32([2 * head_dim]));
        if *norm != factors {
            return fail(format!("norm {norm:?} must be {factors:?}, for heads of {head_dim}"));
        }
        let rotated = |rope: &Rope| {
            rope.infer(&[Some(x.clone()), cos.clone(), sin.clone(), positions.clone()])
        };
        let keys = rotated(&self.of_keys())?.swap_remove(0);
        let width = Dim::Const(self.n_kv_heads * head_dim);
        if k_cache.dims.last() != Some(&width) {
            return fail(format!("k_cache {k_cache} must have rows of {width:?} for x {x}"));
        }
        let caches = [k_cache, v_cache].map(|cache| Some(cache.clone()));
        let [k_cache, v_cache] = caches;
        let mut results = self.append().infer(&[k_cache, v_cache, Some(keys), Some(x.clone())])?;
        results.extend(rotated(&self.rope)?);
        Ok(results)
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, K_CACHE), (1, V_CACHE)]
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let mut results = vec![args.need(K_CACHE)?.clone(), args.need(V_CACHE)?.clone()];
        let others = self.update_cpu(args, &mut results)?;
        results.extend(others);
        Ok(results)
    }

    fn update_cpu(&self, args: &Args<'_>, states: &mut [Tensor]) -> Result<Vec<Tensor>> {
        let keys = self.rotated(args, &self.of_keys(), true)?;
        let appended = [None, None, keys.first(), args.get(X)];
        self.append().update_cpu(&Args { tensors: &appended, ..*args }, states)?;
        self.rotated(args, &self.rope, false)
    }

    fn dims(&self) -> Vec<Dim> {
        vec![self.past, self.rope.offset]
    }

    fn drawn(&self, rng: &mut Rng) -> Option<Arc<dyn Op>> {
        let pairing = if rng.below(2) == 0 { Pairing::GptJ } else { Pairing::Neox };
        let rope = Rope { pairing, offset: Dim::Const(rng.below(4)), ..self.rope.clone() };
        Some(Arc::new(Self { rope, past: Dim::Const(rng.below(8)), ..self.clone() }))
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        let rows = call.input(X).shape.rows();
        let kept = 2 * rows * call.input(K_CACHE).shape.last();
        let turned = rows * (self.rope.n_heads + self.n_kv_heads) * self.rope.head_dim;
        let q = call.output(2).bytes();
        let bytes = 2 * q + kept * (4 + call.input(K_CACHE).dtype.size());
        Cost { flops: 3.0 * turned as f64, bytes: bytes as f64 }
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "rope_append",
    aliases: &[],
    summary: "rope of packed queries and keys; k_cache[b, past + t] = its keys, v_cache x's values",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let [k_cache, v_cache, x] = ["k_cache", "v_cache", "x"].map(|name| request.need(&[name]));
    let (k_cache, v_cache, x) = (k_cache?, v_cache?, x?);
    let head_dim = request.get("head_dim")?.unwrap_or(64);
    let n_kv_heads = k_cache.shape().last() / head_dim.max(1);
    let row_heads = x.shape().last() / head_dim.max(1);
    let n_heads = request.get("n_heads")?.unwrap_or(row_heads.saturating_sub(2 * n_kv_heads));
    let rotary_dim = request.get("rotary_dim")?.unwrap_or(head_dim);
    let past: usize = request.get("past")?.unwrap_or(0);
    let tokens = x.shape().dims().get(1).copied().unwrap_or(0);
    let theta = request.get("theta")?.unwrap_or(10_000.0);
    let (cos, sin) = rope_tables(theta, rotary_dim, 0..past + tokens, RopeScaling::None)?;
    let rope = Rope {
        n_heads,
        head_dim,
        rotary_dim,
        pairing: request.get("style")?.unwrap_or(Pairing::Neox),
        heads_first: false,
        column: 0,
        offset: past.into(),
    };
    let op = RopeAppend {
        n_kv_heads,
        k_column: n_heads * head_dim,
        v_column: (n_heads + n_kv_heads) * head_dim,
        past: past.into(),
        rope,
        norm: None,
    };
    let positions = request.take(&["positions", "position_ids"]);
    let inputs = vec![Some(k_cache), Some(v_cache), Some(x), Some(cos), Some(sin), positions, None];
    Ok((Arc::new(op), inputs))
}

/// As of a norm and a rotation; what is kept in f16 may be rounded to either neighbour where the last
/// bit of the rotation decides.
fn tolerance(cache: DType) -> Tolerance {
    match cache {
        DType::F16 => Tolerance { nmse: 1e-8, ..Tolerance::f32(2e-6, 1e-3) },
        _ => Tolerance::f32(2e-6, 2e-6),
    }
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(47);
    let mut cases = Vec::new();
    for (pairing, head_dim, rotary_dim, n_heads, n_kv_heads, [batch, tokens, past, context]) in [
        (Pairing::Neox, 4, 4, 1, 1, [1, 1, 0, 1]),
        (Pairing::Neox, 64, 64, 6, 2, [2, 1, 16, 17]),
        (Pairing::Neox, 80, 20, 3, 3, [2, 5, 3, 9]),
        (Pairing::GptJ, 64, 64, 3, 1, [1, 7, 4, 30]),
        (Pairing::GptJ, 24, 8, 2, 2, [3, 5, 14, 17]),
    ] {
        let tables = rope_tables(1e4, rotary_dim, 0..60, RopeScaling::None);
        let (cos, sin) = tables.unwrap_or_else(|e| unreachable!("{e}"));
        // Something else lies in front of queries, keys and values in a row.
        let front = 3;
        let heads = n_heads + 2 * n_kv_heads;
        let x = rng.tensor([batch, tokens, front + heads * head_dim]);
        let ids = (0..batch * tokens).map(|_| rng.below(60) as u32).collect();
        let ids = Tensor::u32([batch, tokens], ids).unwrap_or_else(|e| unreachable!("{e}"));
        let offset = Dim::Sym(Sym(0));
        let rope = Rope {
            n_heads,
            head_dim,
            rotary_dim,
            pairing,
            heads_first: false,
            column: front,
            offset,
        };
        let op = RopeAppend {
            n_kv_heads,
            k_column: front + n_heads * head_dim,
            v_column: front + (n_heads + n_kv_heads) * head_dim,
            past: offset,
            rope,
            norm: None,
        };
        let caches = [0, 1].map(|_| rng.tensor([batch, context, n_kv_heads * head_dim]));
        let factors = Some(rng.tensor([2 * head_dim]));
        let normed = |unit_offset| Some(RmsNorm { eps: 1e-6, unit_offset, with_sum: false });
        for (dtype, positions, norm) in [
            (DType::F32, None, None),
            (DType::F16, Some(&ids), None),
            (DType::F32, Some(&ids), normed(false)),
            (DType::F16, None, normed(true)),
        ] {
            let [k_cache, v_cache] = caches.each_ref().map(|cache| cache.cast(dtype).ok());
            let label = format!(
                "{pairing:?} {rotary_dim} of {head_dim}, {n_heads}/{n_kv_heads} heads{}, \
                 {batch}x{tokens} tokens behind {past}, {dtype} caches",
                if norm.is_some() { " normalised" } else { "" },
            );
            let factors = norm.as_ref().and(factors.clone());
            let rest = [Some(cos.clone()), Some(sin.clone()), positions.cloned(), factors];
            let inputs = [k_cache, v_cache, Some(x.clone())].into_iter().chain(rest).collect();
            let case =
                Case::new(label, RopeAppend { norm, ..op.clone() }, inputs, tolerance(dtype));
            cases.push(Case { sizes: Sizes::default().with(Sym(0), past), ..case });
        }
    }
    cases
}

fn long_cases() -> Vec<Case> {
    let tokens = 65_537;
    let tables = rope_tables(1e4, 4, 0..tokens, RopeScaling::None);
    let (cos, sin) = tables.unwrap_or_else(|e| unreachable!("{e}"));
    let rope = Rope {
        n_heads: 1,
        head_dim: 4,
        rotary_dim: 4,
        pairing: Pairing::Neox,
        heads_first: false,
        column: 0,
        offset: 0.into(),
    };
    let op =
        RopeAppend { rope, n_kv_heads: 1, k_column: 4, v_column: 8, past: 0.into(), norm: None };
    let mut rng = Rng::new(47);
    let mut rows = |width: usize| Some(rng.tensor([1, tokens, width]));
    let inputs = vec![rows(4), rows(4), rows(12), Some(cos), Some(sin), None, None];
    vec![Case::new(format!("{tokens} tokens"), op, inputs, tolerance(DType::F32))]
}
