//! `out[b, i, h] = sum_j softmax_j(f(scale * q[b, i, h] . k[b, j, g])) v[b, j, g]`, with
//! `g = h / (n_heads / n_kv_heads)` and `f(s) = softcap * tanh(s / softcap) + bias[b, h, i, j]`,
//! over the keys `j` that query `i` sees; a query that sees none gets 0.
//!
//! One fused family, memory linear in tokens. Letters: B batch, T queries, S keys, H query heads,
//! G key/value heads, D elements per head. Operands `q k v key_mask? bias? bucket?`, result `out`,
//! which may be stored in f16.
//!
//! Sources: Vaswani et al. 2017, "Attention Is All You Need"; Milakov and Gimelshein 2018,
//! "Online normalizer calculation for softmax"; Dao et al. 2022, "FlashAttention"; softcap from
//! Gemma 2, table bias from T5 (Raffel et al. 2020).

mod bucket;
mod cases;
mod decode;
mod flash;
mod lanes;
mod launch;
mod problem;
mod reference;
mod request;
mod split;
mod weights;

use std::ops::Range;
use std::sync::Arc;

pub use bucket::{relative_bucket, relative_buckets};
use decode::Decode;
use flash::Flash;
use lanes::Lanes;
use problem::{Extent, View};
use split::Split;

use super::op::{Args, Call, Cost, Entry, Kernel, Op};
use super::rng::Rng;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Sizes, SymMeta, Tensor};

const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;
const KEY_MASK: usize = 3;
const BIAS: usize = 4;
const BUCKET: usize = 5;

/// The largest head the kernels take.
const MAX_HEAD_DIM: usize = 256;

/// How operands lay out tokens and heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadLayout {
    /// `[B, T, columns]`, head h at columns `column + h * D ..`; the result is `[B, T, H * D]`.
    Tokens,
    /// `[B, H, T, D]`, also the result.
    Heads,
}

/// Scaled dot-product attention; operands `q k v key_mask? bias? bucket?`.
///
/// `key_mask` is u32 `[B, S]`, 1 for a real key. `bias` is f32 `[1|B, 1|H, 1|T, S]`; with `bucket`
/// (u32 `[2 * max_distance + 1]`, see [`relative_buckets`]) it is T5's table `[n_buckets, H]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Elements per head, 1 to 256.
    pub head_dim: usize,
    /// Layout of q, k, v and of the result.
    pub layout: HeadLayout,
    /// First column of q in a token's row, for packed projections.
    pub q_column: usize,
    /// First column of k.
    pub k_column: usize,
    /// First column of v.
    pub v_column: usize,
    /// Factor of the dot products, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Whether a query at position p only sees keys 0..=p.
    pub causal: bool,
    /// Position of query 0 among the keys.
    pub q_offset: Dim,
    /// Whether k and v are caches with room for more keys than there are: only the first
    /// `q_offset + T` of them exist.
    pub cached: bool,
    /// A query at position p only sees the `window` keys up to and including p, and `ahead` more.
    pub window: Option<usize>,
    /// Keys behind its position that a query sees through its window; 0 where there is none.
    pub ahead: usize,
    /// Scores are bent into (-softcap, softcap) before masks and bias.
    pub softcap: Option<f32>,
    /// Distances that `bucket` covers on each side; 0 when the bias is a tensor.
    pub max_distance: usize,
}

impl Attention {
    /// Keys that a query at this position can see.
    fn visible(&self, position: usize, kv_len: usize) -> Range<usize> {
        let ordered = self.causal || self.window.is_some();
        let end =
            if ordered { kv_len.min((position + 1).saturating_add(self.ahead)) } else { kv_len };
        let start = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        start.min(end)..end
    }

    /// Batch and token counts of a call with these shapes.
    fn extent(&self, q: Shape, k: Shape, sizes: &Sizes) -> Extent {
        let mut extent = Extent::new(q, k, self.layout);
        if self.cached {
            extent.kv_len = extent.kv_len.min(self.q_offset.eval(sizes) + extent.q_len);
        }
        extent
    }

    /// Most keys that a run of so many queries sees.
    fn most_keys(&self, call: &Call<'_>, queries: usize) -> usize {
        let keys = self.call_extent(call).kv_len;
        let seen = |window: usize| window.saturating_add(self.ahead).saturating_add(queries);
        self.window.map_or(keys, |window| keys.min(seen(window)))
    }

    fn call_extent(&self, call: &Call<'_>) -> Extent {
        self.extent(call.input(Q).shape, call.input(K).shape, call.sizes)
    }

    fn output_shape(&self, q: Shape, extent: Extent) -> Shape {
        match self.layout {
            HeadLayout::Tokens => {
                Shape::from([extent.batch, extent.q_len, self.n_heads * self.head_dim])
            }
            HeadLayout::Heads => q,
        }
    }

    /// Views of q, k, v and out.
    fn views(&self, call: &Call<'_>) -> [View; 4] {
        let view = |shape, column| View::new(shape, self.layout, column, self.head_dim);
        [
            view(call.input(Q).shape, self.q_column),
            view(call.input(K).shape, self.k_column),
            view(call.input(V).shape, self.v_column),
            view(call.output(0).shape, 0),
        ]
    }

    fn check_attributes(&self) -> Result<(), String> {
        let Self { n_heads, n_kv_heads, head_dim, .. } = *self;
        if n_heads == 0 || n_kv_heads == 0 || !n_heads.is_multiple_of(n_kv_heads) {
            return Err(format!(
                "{n_heads} query heads cannot share {n_kv_heads} key/value heads evenly"
            ));
        }
        if !(1..=MAX_HEAD_DIM).contains(&head_dim) {
            return Err(format!("head_dim {head_dim} must be 1 to {MAX_HEAD_DIM}"));
        }
        if !self.scale.is_finite() {
            return Err(format!("scale {} must be finite", self.scale));
        }
        if let Some(cap) = self.softcap.filter(|cap| !(cap.is_finite() && *cap > 0.0)) {
            return Err(format!("softcap {cap} must be finite and positive"));
        }
        if self.ahead > 0 && (self.causal || self.window.is_none()) {
            return Err(format!("ahead {} goes with a window that is not causal", self.ahead));
        }
        match self.window {
            Some(0) => Err("window 0 hides every key; leave it out for none".to_owned()),
            _ => Ok(()),
        }
    }

    /// Checks one of q, k, v and gives its batch and token dimensions.
    fn check_heads(
        &self,
        name: &str,
        x: &SymMeta,
        heads: usize,
        column: usize,
    ) -> Result<(Dim, Dim), String> {
        let width = heads * self.head_dim;
        match (self.layout, x.dims.as_slice()) {
            (HeadLayout::Tokens, &[b, t, Dim::Const(columns)]) if column + width <= columns => {
                Ok((b, t))
            }
            (HeadLayout::Tokens, _) => Err(format!(
                "{name} {x} must be [batch, tokens, columns] with columns {column}..{} for \
                 {heads} heads of {}",
                column + width,
                self.head_dim
            )),
            (HeadLayout::Heads, &[b, h, t, d])
                if h == Dim::Const(heads) && d == Dim::Const(self.head_dim) =>
            {
                Ok((b, t))
            }
            (HeadLayout::Heads, _) => {
                Err(format!("{name} {x} must be [batch, {heads}, tokens, {}]", self.head_dim))
            }
        }
    }

    fn check_bias(
        &self,
        bias: Option<&SymMeta>,
        bucket: Option<&SymMeta>,
        [b, t, s]: [Dim; 3],
    ) -> Result<(), String> {
        let h = Dim::Const(self.n_heads);
        if let Some(bucket) = bucket {
            let entries = 2 * self.max_distance + 1;
            if *bucket != SymMeta::u32([entries]) {
                return Err(format!(
                    "bucket {bucket} must be u32[{entries}] for max_distance {}",
                    self.max_distance
                ));
            }
            return match bias {
                Some(table) if table.dtype == DType::F32 => match table.dims.as_slice() {
                    &[Dim::Const(1..), heads] if heads == h => Ok(()),
                    _ => Err(format!("bias {table} must be a table [n_buckets, {h:?}]")),
                },
                _ => Err("bucket needs an f32 table as bias".to_owned()),
            };
        }
        let Some(bias) = bias else { return Ok(()) };
        let fits = |have: Dim, full: Dim| have == Dim::Const(1) || have == full;
        if let &[bb, bh, bt, bs] = bias.dims.as_slice()
            && bias.dtype == DType::F32
            && (fits(bb, b) && fits(bh, h) && fits(bt, t) && bs == s)
        {
            return Ok(());
        }
        let full = SymMeta { dims: vec![b, h, t, s], dtype: DType::F32 };
        Err(format!("bias {bias} must be {full}, where all but the keys may be 1"))
    }
}

impl Op for Attention {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["q", "k", "v", "key_mask", "bias", "bucket"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["out"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Error::op("attention", message);
        let [Some(q), Some(k), Some(v), key_mask, bias, bucket] = inputs else {
            return Err(fail("expected operands q, k, v, key_mask?, bias?, bucket?".to_owned()));
        };
        self.check_attributes().map_err(fail)?;
        if q.dtype != DType::F32 {
            return Err(fail(format!("q {q} must be f32")));
        }
        if k.dtype != v.dtype || !matches!(k.dtype, DType::F32 | DType::F16) {
            return Err(fail(format!("k {k} and v {v} must both be f32 or both f16")));
        }
        let (b, t) = self.check_heads("q", q, self.n_heads, self.q_column).map_err(fail)?;
        let (kb, s) = self.check_heads("k", k, self.n_kv_heads, self.k_column).map_err(fail)?;
        let (vb, vs) = self.check_heads("v", v, self.n_kv_heads, self.v_column).map_err(fail)?;
        if (kb, vb) != (b, b) || vs != s {
            return Err(fail(format!("q {q}, k {k} and v {v} differ in batch or keys")));
        }
        let mask = SymMeta { dims: vec![b, s], dtype: DType::U32 };
        if let Some(found) = key_mask.as_ref().filter(|found| **found != mask) {
            return Err(fail(format!("key_mask {found} must be {mask} for q {q} and k {k}")));
        }
        self.check_bias(bias.as_ref(), bucket.as_ref(), [b, t, s]).map_err(fail)?;
        Ok(vec![match self.layout {
            HeadLayout::Tokens => q.clone().with_last(self.n_heads * self.head_dim),
            HeadLayout::Heads => q.clone(),
        }])
    }

    fn stores_f16(&self, _i: usize) -> bool {
        true
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![reference::reference(self, args)?])
    }

    fn run_cpu(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        Ok(vec![reference::run_cpu(self, args)?])
    }

    fn at_column(&self, i: usize, column: usize) -> Option<Arc<dyn Op>> {
        if self.layout != HeadLayout::Tokens {
            return None;
        }
        let mut op = self.clone();
        match i {
            Q => op.q_column += column,
            K => op.k_column += column,
            V => op.v_column += column,
            _ => return None,
        }
        Some(Arc::new(op))
    }

    fn drawn(&self, rng: &mut Rng) -> Option<Arc<dyn Op>> {
        let causal = rng.below(2) == 0;
        let window = (rng.below(2) == 0).then(|| 1 + rng.below(40));
        let two_sided = window.is_some() && !causal && rng.below(2) == 0;
        let softcap = (rng.below(3) == 0).then_some(2.5);
        let ahead = if two_sided { rng.below(40) } else { 0 };
        // A cache says by its offset which keys there are.
        let q_offset =
            if self.cached { self.q_offset } else { Dim::Const(rng.below(2) * rng.below(40)) };
        Some(Arc::new(Self { causal, window, ahead, softcap, q_offset, ..self.clone() }))
    }

    fn dims(&self) -> Vec<Dim> {
        vec![self.q_offset]
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        let extent = self.call_extent(call);
        let offset = self.q_offset.eval(call.sizes);
        let seen = |i| self.visible(i + offset, extent.kv_len).len();
        let pairs: usize = (0..extent.q_len).map(seen).sum();
        let heads = extent.batch * self.n_heads;
        Cost::new(4.0 * (heads * self.head_dim) as f64 * pairs as f64, call)
    }
}

static KERNELS: [&dyn Kernel; 4] = [&Decode::new(), &Split::new(), &Lanes::new(), &Flash::new()];

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "attention",
    aliases: &["sdpa"],
    summary: "out = softmax(softcap(scale q k^T) + bias) v over the keys each query sees",
    kernels: &KERNELS,
    cases: cases::cases,
    long_cases: cases::long_cases,
    build: request::build,
};

impl Attention {
    /// Bidirectional attention of `n_heads` query heads of `head_dim` elements to `n_kv_heads`
    /// key and value heads, operands `[B, T, columns]` from column 0 on, scores scaled by
    /// `1 / sqrt(head_dim)`; without window, softcap, cache or bucketed bias.
    pub fn new(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> Self {
        Self {
            n_heads,
            n_kv_heads,
            head_dim,
            layout: HeadLayout::Tokens,
            q_column: 0,
            k_column: 0,
            v_column: 0,
            scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            causal: false,
            q_offset: Dim::Const(0),
            cached: false,
            window: None,
            ahead: 0,
            softcap: None,
            max_distance: 0,
        }
    }
}
