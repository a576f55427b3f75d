//! Self-attention over a sequence, with or without kept keys and values.

use std::sync::Arc;

use super::kept::Heads;
use super::rotary::Rotary;
use super::scope::Scope;
use super::sequence::Sequence;
use crate::error::Result;
use crate::graph::{Graph, Value, Weight, WeightSource};
use crate::ops::{Attention, CacheAppend, relative_bucket};
use crate::tensor::{DType, Dim, Meta, Shape};

/// T5's relative position bias: a table [n_buckets, n_heads] and the bucket of every distance.
#[derive(Clone, Copy, Debug)]
pub struct RelativeBias {
    table: Value,
    bucket: Value,
    max_distance: usize,
}

impl RelativeBias {
    /// From the checkpoint's table f32 [n_buckets, n_heads].
    pub fn new(
        at: &mut Scope,
        table: Value,
        bidirectional: bool,
        n_buckets: usize,
        max_distance: usize,
    ) -> Result<Self> {
        let shape = Shape::new(&[2 * max_distance + 1])?;
        let source = Buckets { bidirectional, n_buckets, max_distance };
        let meta = Meta { shape, dtype: DType::U32 };
        let bucket = at.weight(Weight::new("relative_buckets", meta, Arc::new(source)));
        Ok(Self { table, bucket, max_distance })
    }
}

/// The bucket u32 of every distance from `-max_distance` to `max_distance`, computed as it is
/// read: every layer asks for the table.
struct Buckets {
    bidirectional: bool,
    n_buckets: usize,
    max_distance: usize,
}

impl WeightSource for Buckets {
    fn origin(&self) -> Option<String> {
        let Self { bidirectional, n_buckets, max_distance } = self;
        Some(format!("relative_buckets {bidirectional} {n_buckets} {max_distance}"))
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        for (i, out) in (offset / 4..).zip(out.as_chunks_mut::<4>().0) {
            let distance = i as i64 - self.max_distance as i64;
            let bucket =
                relative_bucket(distance, self.bidirectional, self.n_buckets, self.max_distance);
            *out = (bucket as u32).to_le_bytes();
        }
        Ok(())
    }
}

/// How a layer attends, apart from its projections.
#[derive(Clone, Debug)]
pub struct Attend {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor of the dot products.
    pub scale: f32,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
    /// Whether a token sees only that many tokens, itself included.
    pub window: Option<usize>,
    /// Tokens behind it that a token sees through its window, besides.
    pub ahead: usize,
    /// Scores are bent into (-softcap, softcap).
    pub softcap: Option<f32>,
    /// Relative position bias.
    pub bias: Option<RelativeBias>,
    /// Rotary positions of queries and keys.
    pub rotary: Option<Rotary>,
}

impl Attend {
    /// Plain bidirectional attention, scaled by `1 / sqrt(head_dim)`.
    pub fn new(n_heads: usize, head_dim: usize) -> Self {
        Self {
            n_heads,
            n_kv_heads: n_heads,
            head_dim,
            scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            causal: false,
            window: None,
            ahead: 0,
            softcap: None,
            bias: None,
            rotary: None,
        }
    }

    /// Attention of a sequence to itself; gives f32 [batch, tokens, n_heads * head_dim].
    ///
    /// Where the sequence keeps keys and values, their states are named by the layer.
    pub fn to_self(
        &self,
        at: &mut Scope,
        sequence: &Sequence,
        [mut q, mut k, v]: [Heads; 3],
    ) -> Result<Value> {
        let layer = at.layer_name().to_owned();
        let graph = at.graph();
        if let Some(rotary) = &self.rotary {
            q = rotary.apply(graph, sequence, q, self.n_heads, self.head_dim)?;
            k = rotary.apply(graph, sequence, k, self.n_kv_heads, self.head_dim)?;
        }
        let Some(cache) = sequence.cache else {
            return self.apply(graph, [q, k, v], sequence.mask, sequence.past, false);
        };
        let [k_cache, v_cache] = cache.states(graph, &layer, self.n_kv_heads * self.head_dim);
        let op = CacheAppend { offset: sequence.past, k_column: k.column, v_column: v.column };
        let operands = [Some(k_cache), Some(v_cache), Some(k.value), Some(v.value)];
        let kept = graph.apply_all(op, operands)?;
        let [k, v] = [kept[0].into(), kept[1].into()];
        self.apply(graph, [q, k, v], sequence.mask, sequence.past, true)
    }

    pub(super) fn apply(
        &self,
        graph: &mut Graph,
        [q, k, v]: [Heads; 3],
        mask: Option<Value>,
        q_offset: Dim,
        cached: bool,
    ) -> Result<Value> {
        let op = Attention {
            q_column: q.column,
            k_column: k.column,
            v_column: v.column,
            scale: self.scale,
            causal: self.causal,
            q_offset,
            cached,
            window: self.window,
            ahead: self.ahead,
            softcap: self.softcap,
            max_distance: self.bias.map_or(0, |b| b.max_distance),
            ..Attention::new(self.n_heads, self.n_kv_heads, self.head_dim)
        };
        let (table, bucket) = (self.bias.map(|b| b.table), self.bias.map(|b| b.bucket));
        graph.apply(op, [Some(q.value), Some(k.value), Some(v.value), mask, table, bucket])
    }
}
