//! What both CPU routes read of a call: operand slices, strides and masks.

use std::borrow::Cow;

use super::{Attention, HeadLayout};
use crate::error::{Error, Result};
use crate::ops::op::Args;
use crate::tensor::{Shape, Tensor};

/// Where an operand's heads lie: the first element, and elements between two batches, tokens
/// and heads. The elements of a head are contiguous.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct View {
    pub start: usize,
    pub batch: usize,
    pub token: usize,
    pub head: usize,
}

impl View {
    pub(super) fn new(shape: Shape, layout: HeadLayout, column: usize, head_dim: usize) -> Self {
        let dims = shape.dims();
        match (layout, dims) {
            (HeadLayout::Tokens, &[_, tokens, columns]) => {
                Self { start: column, batch: tokens * columns, token: columns, head: head_dim }
            }
            (HeadLayout::Heads, &[_, heads, tokens, dim]) => {
                Self { start: 0, batch: heads * tokens * dim, token: dim, head: tokens * dim }
            }
            // Checked by `infer`.
            _ => Self::default(),
        }
    }

    pub(super) fn at(&self, b: usize, token: usize, head: usize) -> usize {
        self.start + b * self.batch + token * self.token + head * self.head
    }

    /// Whether every head starts at a multiple of `step` elements, given that its width is one.
    pub(super) fn aligned(&self, step: usize) -> bool {
        [self.start, self.batch, self.token, self.head].iter().all(|n| n.is_multiple_of(step))
    }
}

/// Batch and token counts of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub batch: usize,
    pub q_len: usize,
    pub kv_len: usize,
}

impl Extent {
    pub(super) fn new(q: Shape, k: Shape, layout: HeadLayout) -> Self {
        let dim = |shape: Shape, i: usize| shape.dims().get(i).copied().unwrap_or(0);
        let token = if layout == HeadLayout::Tokens { 1 } else { 2 };
        Self { batch: dim(q, 0), q_len: dim(q, token), kv_len: dim(k, token) }
    }
}

/// Elements between two batches, heads and queries of an additive bias; 0 where it is shared.
pub(super) fn bias_strides(shape: Shape) -> [usize; 3] {
    let &[b, h, t, s] = shape.dims() else { return [0; 3] };
    let stride = |n: usize, below: usize| if n > 1 { below } else { 0 };
    [stride(b, h * t * s), stride(h, t * s), stride(t, s)]
}

/// One call's operands.
pub(super) struct Problem<'a> {
    pub extent: Extent,
    pub q: (&'a [f32], View),
    pub k: (Cow<'a, [f32]>, View),
    pub v: (Cow<'a, [f32]>, View),
    pub out: (Shape, View),
    /// The mask and the keys of a row of it.
    key_mask: Option<(&'a [u32], usize)>,
    bias: Option<(&'a [f32], [usize; 3])>,
    bucket: Option<&'a [u32]>,
    op: &'a Attention,
    q_offset: usize,
}

impl<'a> Problem<'a> {
    pub(super) fn new(op: &'a Attention, args: &Args<'a>) -> Result<Self> {
        let (q, k, v) = (args.need(super::Q)?, args.need(super::K)?, args.need(super::V)?);
        let view = |t: &Tensor, column| View::new(t.shape(), op.layout, column, op.head_dim);
        let extent = op.extent(q.shape(), k.shape(), args.sizes);
        let bias = args.get(super::BIAS);
        let bucket = args.get(super::BUCKET).map(Tensor::as_u32).transpose()?;
        if let (Some(bucket), Some(table)) = (bucket, bias) {
            let rows = table.shape().rows();
            if let Some(wrong) = bucket.iter().find(|&&row| row as usize >= rows) {
                let message = format!("bucket {wrong} is beyond the bias table's {rows} rows");
                return Err(Error::op("attention", message));
            }
        }
        let out = op.output_shape(q.shape(), extent);
        Ok(Self {
            extent,
            q: (q.as_f32()?, view(q, op.q_column)),
            k: (k.to_f32()?, view(k, op.k_column)),
            v: (v.to_f32()?, view(v, op.v_column)),
            out: (out, View::new(out, op.layout, 0, op.head_dim)),
            key_mask: match args.get(super::KEY_MASK) {
                Some(mask) => Some((mask.as_u32()?, mask.shape().last())),
                None => None,
            },
            bias: match bias {
                Some(bias) => Some((bias.as_f32()?, bias_strides(bias.shape()))),
                None => None,
            },
            bucket,
            op,
            q_offset: op.q_offset.eval(args.sizes),
        })
    }

    /// The keys that query `i` can see, padding aside.
    pub(super) fn visible(&self, i: usize) -> std::ops::Range<usize> {
        self.op.visible(i + self.q_offset, self.extent.kv_len)
    }

    /// Whether a key is real, not padding.
    pub(super) fn real(&self, b: usize, j: usize) -> bool {
        self.key_mask.is_none_or(|(mask, keys)| mask[b * keys + j] != 0)
    }

    /// What is added to a score.
    pub(super) fn bias(&self, b: usize, h: usize, i: usize, j: usize) -> f32 {
        let Some((bias, strides)) = self.bias else { return 0.0 };
        let Some(bucket) = self.bucket else {
            return bias[b * strides[0] + h * strides[1] + i * strides[2] + j];
        };
        let reach = self.op.max_distance as i64;
        let distance = j as i64 - (i + self.q_offset) as i64;
        let row = bucket[(distance.clamp(-reach, reach) + reach) as usize];
        bias[row as usize * self.op.n_heads + h]
    }
}
