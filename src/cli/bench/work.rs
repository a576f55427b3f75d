//! What is measured: an op of given sizes, with random operands.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::Caps;
use crate::ops::{Attention, Call, Cost, LayerNorm, Matmul, Op, RmsNorm, Rng, Softmax};
use crate::tensor::{DType, Dim, Meta, Shape, Sizes, Tensor};

/// One op instance and the shapes of its operands.
pub(super) struct Work {
    /// The op's name in the report.
    pub op: &'static str,
    /// Its sizes in the report.
    pub shape: String,
    /// Storage of its weight.
    pub dtype: DType,
    /// The instance.
    pub instance: Arc<dyn Op>,
    operands: Vec<Option<Meta>>,
}

/// Normalisations over rows.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Norm {
    #[value(name = "layer_norm")]
    Layer,
    #[value(name = "rms_norm")]
    Rms,
    Softmax,
}

/// Sizes of one attention.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
    pub queries: usize,
    pub keys: usize,
    pub causal: bool,
}

impl Work {
    /// `y [m, n] = x [m, k] weight^T`, the weight stored [n, k].
    pub fn matmul(op: &'static str, [m, n, k]: [usize; 3], dtype: DType) -> Result<Self> {
        let x = Meta::f32(Shape::new(&[m, k])?);
        let weight = Meta { shape: Shape::new(&[n, k])?, dtype };
        Ok(Self {
            op,
            shape: format!("{m}x{n}x{k}"),
            dtype,
            instance: Arc::new(Matmul::linear()),
            operands: vec![Some(x), Some(weight), None, None],
        })
    }

    /// A normalisation of `rows` rows with weight (and bias) where it has them.
    pub fn norm(norm: Norm, rows: usize, cols: usize) -> Result<Self> {
        let x = Some(Meta::f32(Shape::new(&[rows, cols])?));
        let column = Some(Meta::f32([cols]));
        let (instance, operands): (Arc<dyn Op>, _) = match norm {
            Norm::Layer => {
                (Arc::new(LayerNorm { eps: 1e-5, with_sum: false }), vec![x, None, column, column])
            }
            Norm::Rms => (
                Arc::new(RmsNorm { eps: 1e-6, unit_offset: false, with_sum: false }),
                vec![x, None, column],
            ),
            Norm::Softmax => (Arc::new(Softmax { log: false }), vec![x]),
        };
        let shape = format!("{rows}x{cols}");
        Ok(Self { op: instance.name(), shape, dtype: DType::F32, instance, operands })
    }

    /// Attention over token-major operands, as models call it; the queries are the last of
    /// the keys' positions.
    pub fn attention(sizes: Heads) -> Result<Self> {
        let Heads { batch, heads, kv_heads, dim, queries, keys, causal } = sizes;
        let width = |heads: usize| {
            heads.checked_mul(dim).ok_or_else(|| {
                Error::Argument(format!("{heads} heads of {dim} elements are too many"))
            })
        };
        let q = Meta::f32(Shape::new(&[batch, queries, width(heads)?])?);
        let kv = Meta::f32(Shape::new(&[batch, keys, width(kv_heads)?])?);
        let instance = Attention {
            causal,
            q_offset: Dim::Const(keys.saturating_sub(queries)),
            ..Attention::new(heads, kv_heads, dim)
        };
        let either = |a: usize, b: usize| {
            if a == b { a.to_string() } else { format!("{a}/{b}") }
        };
        let causal = if causal { " causal" } else { "" };
        let (h, t) = (either(heads, kv_heads), either(queries, keys));
        Ok(Self {
            op: "attention",
            shape: format!("{batch}x{h}x{t}x{dim}{causal}"),
            dtype: DType::F32,
            instance: Arc::new(instance),
            operands: vec![Some(q), Some(kv), Some(kv), None, None, None],
        })
    }

    /// Shapes of the results, after the op's checks.
    pub fn results(&self) -> Result<Vec<Meta>> {
        let operands: Vec<_> = self.operands.iter().map(|m| m.map(Into::into)).collect();
        let results = self.instance.infer(&operands)?;
        results.iter().map(|m| m.eval(&Sizes::default())).collect()
    }

    /// The work as a call on such a device.
    pub fn with_call<T>(&self, caps: &Caps, use_it: impl FnOnce(&Call<'_>) -> T) -> Result<T> {
        let (outputs, sizes) = (self.results()?, &Sizes::default());
        let (op, inputs) = (&*self.instance, &self.operands);
        Ok(use_it(&Call { op, inputs, outputs: &outputs, sizes, caps, part: None }))
    }

    /// Arithmetic and memory traffic, which are the same on every device.
    pub fn cost(&self) -> Result<Cost> {
        self.with_call(&Caps::baseline(), |call| self.instance.cost(call))
    }

    /// Errors before anything is allocated when an operand or result cannot be bound whole and
    /// cannot be split either.
    pub fn check_fits(&self, caps: &Caps) -> Result<()> {
        let limit = caps.max_binding.min(caps.max_buffer);
        let whole = |i: &usize| self.instance.splittable() != Some(*i);
        let operands = (0..self.operands.len()).filter(whole).filter_map(|i| self.operands[i]);
        match operands.chain(self.results()?).find(|m| m.bytes() as u64 > limit) {
            None => Ok(()),
            Some(meta) => Err(Error::op(
                self.op,
                format!("{meta} exceeds the largest binding of {} bytes", limit),
            )),
        }
    }

    /// Operands uniform in [-1, 1), the same at every call. Errors when the host's memory does
    /// not hold them and the results.
    pub fn draw(&self) -> Result<Vec<Option<Tensor>>> {
        for meta in self.results()? {
            reserve(meta)?;
        }
        let mut rng = Rng::new(7);
        let mut draw = |meta: Meta| {
            let mut values = reserve(meta)?;
            values.extend((0..meta.shape.numel()).map(|_| (rng.uniform() * 2.0 - 1.0) as f32));
            Tensor::f32(meta.shape, values)?.cast(meta.dtype)
        };
        self.operands.iter().map(|meta| meta.map(&mut draw).transpose()).collect()
    }
}

fn reserve(meta: Meta) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(meta.shape.numel())
        .map_err(|_| Error::Argument(format!("the host's memory does not hold {meta}")))?;
    Ok(values)
}
