//! `k_cache[b, offset + t] = k[b, t]` and the same for v: keys and values of new tokens are
//! appended to those of earlier ones, in place.
//!
//! Shapes: k_cache, v_cache `[B, S, W]` with S the context, f32, or f16 with an even W; k
//! `[B, T, row]`, v `[B, T, row]` f32, of which W columns from `k_column` and `v_column` on are
//! taken, so that both may be slices of packed projections. Rows beyond the context are dropped;
//! an f16 cache gets the nearest halves, saturated at 65,504.

use std::sync::Arc;

use half::f16;

use super::elementwise;
use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::single::{Single, no_loops};
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::Spec;
use crate::tensor::{DType, Data, Dim, Shape, Sizes, Sym, SymMeta, Tensor};

const K_CACHE: usize = 0;
const V_CACHE: usize = 1;
const K: usize = 2;
const V: usize = 3;

/// The largest finite half.
const MAX: f32 = 65_504.0;

/// Appends keys and values to their caches; operands `k_cache v_cache k v`.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheAppend {
    /// Position of the first new token in the caches.
    pub offset: Dim,
    /// First column of the keys in a row of k.
    pub k_column: usize,
    /// First column of the values in a row of v.
    pub v_column: usize,
}

crate::params! {
    /// Twin of `Params` in `shaders/cache_append.wgsl`.
    struct Params {
        count: u32, tokens: u32, context: u32, words: u32, offset: u32,
        k_row: u32, k_column: u32, v_row: u32, v_column: u32,
    }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("cache_append"), Params::FIELDS, spec, dispatch, no_loops)];

fn spec(_op: &CacheAppend, call: &Call<'_>) -> Spec {
    match call.input(K_CACHE).dtype {
        DType::F16 => Spec::new().import("cache_f32", "cache_f16"),
        _ => Spec::new(),
    }
}

fn dispatch(op: &CacheAppend, call: &Call<'_>) -> Dispatch {
    let dim = |shape: Shape, i: usize| shape.dims().get(i).copied().unwrap_or(0);
    let (cache, k) = (call.input(K_CACHE).shape, call.input(K).shape);
    let words = cache.last() * call.input(K_CACHE).dtype.size() / 4;
    let count = k.rows() * words;
    let params = Params {
        count: count as u32,
        tokens: dim(k, 1) as u32,
        context: dim(cache, 1) as u32,
        words: words as u32,
        offset: op.offset.eval(call.sizes) as u32,
        k_row: k.last() as u32,
        k_column: op.k_column as u32,
        v_row: call.input(V).shape.last() as u32,
        v_column: op.v_column as u32,
    };
    Dispatch::new(&params, elementwise::grid(count))
}

impl Op for CacheAppend {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["k_cache", "v_cache", "k", "v"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["k_cache", "v_cache"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("cache_append", message));
        let [Some(k_cache), Some(v_cache), Some(k), Some(v)] = inputs else {
            return fail("expected operands k_cache, v_cache, k, v".to_owned());
        };
        let (&[batch, _, Dim::Const(width)], true) = (k_cache.dims.as_slice(), k_cache == v_cache)
        else {
            return fail(format!(
                "k_cache {k_cache} and v_cache {v_cache} must be equal, [batch, context, width]"
            ));
        };
        match k_cache.dtype {
            DType::F32 => {}
            DType::F16 if width.is_multiple_of(2) => {}
            _ => return fail(format!("k_cache {k_cache} must be f32, or f16 of an even width")),
        }
        if let Some((name, t)) = [("k", k), ("v", v)].into_iter().find(|t| t.1.dtype != DType::F32)
        {
            return fail(format!("{name} {t} must be f32"));
        }
        for (name, t, column) in [("k", k, self.k_column), ("v", v, self.v_column)] {
            let fits = matches!(
                t.dims.as_slice(),
                &[b, _, Dim::Const(row)] if b == batch && row >= column + width
            );
            if !fits || k.dims[..2] != t.dims[..2] {
                return fail(format!(
                    "{name} {t} must be [batch, tokens, row] with {width} columns from {column} \
                     on, for k_cache {k_cache}"
                ));
            }
        }
        Ok(vec![k_cache.clone(), v_cache.clone()])
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, K_CACHE), (1, V_CACHE)]
    }

    fn at_column(&self, i: usize, column: usize) -> Option<Arc<dyn Op>> {
        match i {
            K => Some(Arc::new(Self { k_column: self.k_column + column, ..self.clone() })),
            V => Some(Arc::new(Self { v_column: self.v_column + column, ..self.clone() })),
            _ => None,
        }
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let mut caches = [args.need(K_CACHE)?.clone(), args.need(V_CACHE)?.clone()];
        self.update_cpu(args, &mut caches)?;
        Ok(caches.into())
    }

    fn update_cpu(&self, args: &Args<'_>, states: &mut [Tensor]) -> Result<Vec<Tensor>> {
        let offset = self.offset.eval(args.sizes);
        let news = [(args.need(K)?, self.k_column), (args.need(V)?, self.v_column)];
        for (cache, (new, column)) in states.iter_mut().zip(news) {
            let (shape, rows) = (cache.shape(), new.shape());
            let (&[_, context, width], &[_, tokens, row]) = (shape.dims(), rows.dims()) else {
                return Err(Error::op("cache_append", format!("cache {shape}, new rows {rows}")));
            };
            let meta = cache.meta();
            for (i, from) in new.as_f32()?.chunks_exact(row).enumerate() {
                let position = offset + i % tokens;
                if position >= context {
                    continue;
                }
                let to = (i / tokens * context + position) * width;
                let from = &from[column..column + width];
                match cache.data_mut() {
                    Data::F32(values) => values[to..to + width].copy_from_slice(from),
                    Data::F16(values) => {
                        let halves = from.iter().map(|v| f16::from_f32(v.clamp(-MAX, MAX)));
                        values[to..to + width].iter_mut().zip(halves).for_each(|(to, v)| *to = v);
                    }
                    _ => return Err(Error::op("cache_append", format!("cache {meta}"))),
                }
            }
        }
        Ok(Vec::new())
    }

    fn dims(&self) -> Vec<Dim> {
        vec![self.offset]
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        let moved = call.input(K).shape.rows() * call.input(K_CACHE).shape.last();
        Cost { flops: 0.0, bytes: (2 * moved * (4 + call.input(K_CACHE).dtype.size())) as f64 }
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "cache_append",
    aliases: &[],
    summary: "k_cache[b, offset + t] = k[b, t], and the same for v, in place",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let inputs = ["k_cache", "v_cache", "k", "v"].map(|name| request.need(&[name]));
    let inputs = inputs.into_iter().map(|t| t.map(Some)).collect::<Result<_>>()?;
    let op = CacheAppend {
        offset: Dim::Const(request.get("offset")?.unwrap_or(0)),
        k_column: request.get("k_column")?.unwrap_or(0),
        v_column: request.get("v_column")?.unwrap_or(0),
    };
    Ok((Arc::new(op), inputs))
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(41);
    let mut cases = Vec::new();
    for (batch, context, width, tokens, offset) in [
        (1, 1, 1, 1, 0),
        (2, 9, 7, 3, 4),
        (1, 64, 64, 1, 63),
        (3, 17, 33, 5, 14),
        (3, 17, 34, 5, 14),
        (2, 70, 96, 65, 0),
    ] {
        let caches = [0, 1].map(|_| rng.tensor([batch, context, width]));
        // Some beyond what a half holds, some as small as subnormal halves.
        let packed = rng.tensor_with([batch, tokens, 3 * width], |r| {
            r.normal() * [1.0, 1.0, 1e5, 1e-5][r.below(4)]
        });
        for dtype in [DType::F32, DType::F16] {
            if dtype == DType::F16 && !width.is_multiple_of(2) {
                continue;
            }
            let [k_cache, v_cache] = caches.each_ref().map(|cache| cache.cast(dtype).ok());
            let packed = Some(packed.clone());
            let op = CacheAppend { offset: Dim::Sym(Sym(0)), k_column: width, v_column: 2 * width };
            let label = format!("{dtype} {batch}x{context}x{width}, {tokens} tokens at {offset}");
            let inputs = vec![k_cache, v_cache, packed.clone(), packed];
            let case = Case::new(label, op, inputs, Tolerance::exact());
            cases.push(Case { sizes: Sizes::default().with(Sym(0), offset), ..case });
        }
    }
    cases
}

fn long_cases() -> Vec<Case> {
    let (mut rng, width) = (Rng::new(41), elementwise::LONG);
    let mut rows = |n: usize| Some(rng.tensor([1, n, width]));
    let inputs = vec![rows(3), rows(3), rows(1), rows(1)];
    let op = CacheAppend { offset: Dim::Const(1), k_column: 0, v_column: 0 };
    vec![Case::new(format!("1x3x{width}, a token at 1"), op, inputs, Tolerance::exact())]
}
