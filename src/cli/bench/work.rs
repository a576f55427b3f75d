//! What is measured: an op of given sizes, with random operands.

use std::sync::Arc;

use super::presets::Bias;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::gpu::Caps;
use crate::ops::{
    Attention, Call, Cost, LayerNorm, Matmul, Op, RmsNorm, Rng, Softmax, relative_buckets,
};
use crate::tensor::{DType, Dim, Meta, Shape, Sizes, Tensor};

/// One op instance and the shapes of its operands.
pub(super) struct Work {
    /// The op's name in the report.
    pub op: &'static str,
    /// Its sizes in the report.
    pub shape: String,
    /// How its operands are stored, in the report.
    pub stored: String,
    /// Whether an operand is stored in 16 bits or less.
    pub halves: bool,
    /// Whether the result is stored in f16.
    pub narrow: bool,
    /// Subcommand and options that stand for exactly this work.
    pub options: String,
    /// The curve it is a point of.
    pub curve: Option<Curve>,
    /// Its sizes, where it is an attention.
    pub heads: Option<Heads>,
    /// The instance.
    pub instance: Arc<dyn Op>,
    operands: Vec<Option<Meta>>,
}

/// A place on a plot against length.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// What all its points share, besides the variant.
    pub name: String,
    /// Tokens of this point.
    pub length: usize,
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

impl Norm {
    fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer_norm",
            Self::Rms => "rms_norm",
            Self::Softmax => "softmax",
        }
    }
}

/// How factors and result of a product are stored.
#[derive(Clone, Copy)]
pub(super) struct Storage {
    pub weight: Format,
    pub x: DType,
    pub y: DType,
}

/// One attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heads {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
    pub queries: usize,
    pub keys: usize,
    pub causal: bool,
    pub window: Option<usize>,
    pub softcap: Option<f32>,
    pub bias: Bias,
    pub scale: Option<f32>,
    /// Whether a quarter of the keys, at the sequences' ends, are padding.
    pub padded: bool,
    /// Storage of keys and values.
    pub dtype: DType,
    /// Whether the batch follows from the length, so that it is no part of a curve.
    pub swept: bool,
}

/// Buckets of T5's table, and the distance from which on there is but one.
pub(super) const BUCKETS: usize = 32;
pub(super) const MAX_DISTANCE: usize = 128;

/// Positions of the op's operands that are not drawn from [-1, 1).
const KEY_MASK: usize = 3;

impl Heads {
    /// Position of the first query among the keys.
    pub fn offset(&self) -> usize {
        self.keys.saturating_sub(self.queries)
    }

    /// Keys behind its position that a query sees through its window.
    pub fn ahead(&self) -> usize {
        if self.causal { 0 } else { self.window.map_or(0, |window| window - 1) }
    }

    /// Real keys of a sequence; the sequences of a batch are padded by different amounts.
    pub fn real_keys(&self, sequence: usize) -> usize {
        if !self.padded {
            return self.keys;
        }
        let padding = self.keys as u128 * (2 * sequence as u128 + 1) / (4 * self.batch as u128);
        self.keys - padding as usize
    }

    /// The op.
    pub fn op(&self) -> Attention {
        let new = Attention::new(self.heads, self.kv_heads, self.dim);
        Attention {
            causal: self.causal,
            q_offset: Dim::Const(self.offset()),
            window: self.window,
            ahead: self.ahead(),
            softcap: self.softcap,
            scale: self.scale.unwrap_or(new.scale),
            max_distance: if self.bias == Bias::T5 { MAX_DISTANCE } else { 0 },
            ..new
        }
    }

    /// Everything but the sizes, in words.
    fn extras(&self) -> String {
        let mut words = String::new();
        if self.causal {
            words += " causal";
        }
        if let Some(window) = self.window {
            words += &format!(" window {window}");
        }
        if let Some(cap) = self.softcap {
            words += &format!(" softcap {cap}");
        }
        match self.bias {
            Bias::None => {}
            Bias::Tensor => words += " bias",
            Bias::T5 => words += " t5 bias",
        }
        if let Some(scale) = self.scale {
            words += &format!(" scale {scale}");
        }
        if self.padded {
            words += " padded";
        }
        words
    }

    fn options(&self) -> String {
        let Self { batch, heads, kv_heads, dim, queries, keys, dtype, .. } = *self;
        let mut text = format!("attention --batch {batch} --heads {heads}");
        if kv_heads != heads {
            text += &format!(" --kv-heads {kv_heads}");
        }
        text += &format!(" --dim {dim} --seq {keys}");
        if queries != keys {
            text += &format!(" --queries {queries}");
        }
        text += &format!(" --dtype {dtype}");
        if self.causal {
            text += " --causal yes";
        }
        if let Some(window) = self.window {
            text += &format!(" --window {window}");
        }
        if let Some(cap) = self.softcap {
            text += &format!(" --softcap {cap}");
        }
        match self.bias {
            Bias::None => {}
            Bias::Tensor => text += " --bias tensor",
            Bias::T5 => text += " --bias t5",
        }
        if let Some(scale) = self.scale {
            // A negative number would read as an option.
            text += &format!(" --scale={scale}");
        }
        if self.padded {
            text += " --mask padding";
        }
        text
    }

    fn curve(&self, heads: &str) -> Curve {
        let batch = if self.swept { String::new() } else { format!("{}x", self.batch) };
        let queries = if self.queries == self.keys {
            String::new()
        } else {
            format!(", {} queries", self.queries)
        };
        let (dim, extras, dtype) = (self.dim, self.extras(), self.dtype);
        let name = format!("{batch}{heads}xNx{dim}{extras} {dtype}{queries}");
        Curve { name, length: self.keys }
    }
}

impl Work {
    /// `y [m, n] = x [m, k] weight^T`, the weight stored [n, k].
    pub fn matmul(op: &'static str, [m, n, k]: [usize; 3], storage: Storage) -> Result<Self> {
        let Storage { weight: format, x: x_dtype, y: y_dtype } = storage;
        let x = Meta { shape: Shape::new(&[m, k])?, dtype: x_dtype };
        let weight = Meta { shape: Shape::new(&[n, k])?, dtype: format.dtype() };
        let sizes = match op {
            "gemv" => format!("--nk {n}x{k} --m {m}"),
            _ => format!("--mnk {m}x{n}x{k}"),
        };
        let (mut stored, mut options) = (format.to_string(), format!("{op} {sizes}"));
        options += &format!(" --dtype {format}");
        for (name, dtype) in [("x", x_dtype), ("y", y_dtype)] {
            if dtype != DType::F32 {
                stored += &format!(", {name} {dtype}");
                options += &format!(" --{name}-dtype {dtype}");
            }
        }
        Ok(Self {
            op,
            shape: format!("{m}x{n}x{k}"),
            stored,
            halves: format != Format::F32 || x_dtype != DType::F32,
            narrow: y_dtype == DType::F16,
            options,
            curve: None,
            heads: None,
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
        Ok(Self {
            op: instance.name(),
            shape: format!("{rows}x{cols}"),
            stored: DType::F32.to_string(),
            halves: false,
            narrow: false,
            options: format!("norm --norm {} --rows {rows} --cols {cols}", norm.name()),
            curve: None,
            heads: None,
            instance,
            operands,
        })
    }

    /// Attention over token-major operands, as models call it; the queries are the last of
    /// the keys' positions.
    pub fn attention(sizes: Heads) -> Result<Self> {
        let Heads { batch, heads, kv_heads, dim, queries, keys, dtype, .. } = sizes;
        let width = |heads: usize| {
            heads.checked_mul(dim).ok_or_else(|| {
                Error::Argument(format!("{heads} heads of {dim} elements are too many"))
            })
        };
        let q = Meta::f32(Shape::new(&[batch, queries, width(heads)?])?);
        let kv = Meta { shape: Shape::new(&[batch, keys, width(kv_heads)?])?, dtype };
        let u32s = |dims: &[usize]| Ok::<_, Error>(Meta::u32(Shape::new(dims)?));
        let mask = sizes.padded.then(|| u32s(&[batch, keys])).transpose()?;
        let (bias, bucket) = match sizes.bias {
            Bias::None => (None, None),
            Bias::Tensor => (Some(Meta::f32(Shape::new(&[1, heads, queries, keys])?)), None),
            Bias::T5 => {
                let table = Meta::f32(Shape::new(&[BUCKETS, heads])?);
                (Some(table), Some(u32s(&[2 * MAX_DISTANCE + 1])?))
            }
        };
        let either = |a: usize, b: usize| {
            if a == b { a.to_string() } else { format!("{a}/{b}") }
        };
        let (h, t) = (either(heads, kv_heads), either(queries, keys));
        Ok(Self {
            op: "attention",
            shape: format!("{batch}x{h}x{t}x{dim}{}", sizes.extras()),
            stored: dtype.to_string(),
            halves: dtype != DType::F32,
            narrow: false,
            options: sizes.options(),
            curve: Some(sizes.curve(&h)),
            heads: Some(sizes),
            instance: Arc::new(sizes.op()),
            operands: vec![Some(q), Some(kv), Some(kv), mask, bias, bucket],
        })
    }

    /// Shapes of the results, after the op's checks.
    pub fn results(&self) -> Result<Vec<Meta>> {
        let operands: Vec<_> = self.operands.iter().map(|m| m.map(Into::into)).collect();
        let mut results = self.instance.infer(&operands)?;
        if self.narrow {
            results.iter_mut().for_each(|result| result.dtype = DType::F16);
        }
        results.iter().map(|m| m.eval(&Sizes::default())).collect()
    }

    /// The work as a call on such a device.
    pub fn with_call<T>(&self, caps: &Caps, use_it: impl FnOnce(&Call<'_>) -> T) -> Result<T> {
        let (outputs, sizes) = (self.results()?, &Sizes::default());
        let (op, inputs) = (&*self.instance, &self.operands);
        Ok(use_it(&Call { op, inputs, outputs: &outputs, sizes, caps, part: None }))
    }

    /// Arithmetic and memory traffic, which are the same on every device. Padding counts as moved
    /// and not as arithmetic.
    pub fn cost(&self) -> Result<Cost> {
        let cost = self.with_call(&Caps::baseline(), |call| self.instance.cost(call))?;
        let Some(heads) = self.heads.filter(|heads| heads.padded) else { return Ok(cost) };
        let mut flops = 0.0;
        for sequence in 0..heads.batch {
            let keys = heads.real_keys(sequence);
            let meta = |m: Meta, tokens| {
                Ok::<_, Error>(Meta { shape: Shape::new(&[1, tokens, m.shape.last()])?, ..m })
            };
            let operand = |i: usize| self.operands[i].unwrap_or(Meta::f32([0]));
            let kv = meta(operand(1), keys)?;
            let inputs = [Some(meta(operand(0), heads.queries)?), Some(kv), Some(kv)];
            let (sizes, caps) = (&Sizes::default(), &Caps::baseline());
            let (op, inputs) = (&*self.instance, &inputs);
            flops += op.cost(&Call { op, inputs, outputs: &[], sizes, caps, part: None }).flops;
        }
        Ok(Cost { flops, ..cost })
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
        let mut draw = |(i, meta): (usize, &Option<Meta>)| {
            let Some(meta) = *meta else { return Ok(None) };
            if meta.dtype == DType::U32 {
                return self.integers(i, meta).map(Some);
            }
            let mut values = reserve(meta)?;
            values.extend((0..meta.shape.numel()).map(|_| (rng.uniform() * 2.0 - 1.0) as f32));
            Tensor::f32(meta.shape, values)?.cast(meta.dtype).map(Some)
        };
        self.operands.iter().enumerate().map(&mut draw).collect()
    }

    /// Which keys are real, or T5's buckets.
    fn integers(&self, i: usize, meta: Meta) -> Result<Tensor> {
        let Some(heads) = &self.heads else {
            return Err(Error::op(self.op, format!("operand {i} {meta} has no values to draw")));
        };
        if i != KEY_MASK {
            let buckets = relative_buckets(!heads.causal, BUCKETS, MAX_DISTANCE);
            return Tensor::u32(meta.shape, buckets);
        }
        let sequence = |b: usize| {
            let real = heads.real_keys(b);
            (0..heads.keys).map(move |key| u32::from(key < real))
        };
        Tensor::u32(meta.shape, (0..heads.batch).flat_map(sequence).collect())
    }
}

fn reserve(meta: Meta) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(meta.shape.numel())
        .map_err(|_| Error::Argument(format!("the host's memory does not hold {meta}")))?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(batch: usize, keys: usize) -> Heads {
        Heads {
            batch,
            heads: 2,
            kv_heads: 1,
            dim: 8,
            queries: keys,
            keys,
            causal: true,
            window: None,
            softcap: None,
            bias: Bias::None,
            scale: None,
            padded: false,
            dtype: DType::F32,
            swept: false,
        }
    }

    #[test]
    fn flops_are_those_of_visible_pairs_of_real_keys() {
        let flops =
            |heads| Work::attention(heads).and_then(|work| work.cost()).expect("valid").flops;
        let pair = 4.0 * 2.0 * 8.0;
        assert_eq!(flops(heads(1, 8)), 36.0 * pair);
        assert_eq!(flops(Heads { window: Some(2), ..heads(1, 8) }), 15.0 * pair);
        // Six of eight keys are real: two queries at the end see six, not seven and eight.
        let padded = Heads { padded: true, ..heads(1, 8) };
        assert_eq!(padded.real_keys(0), 6);
        assert_eq!(flops(padded), 33.0 * pair);
        // A window to both sides: four keys at most, fewer at the ends.
        let both = Heads { causal: false, window: Some(2), ..heads(1, 8) };
        assert_eq!(flops(both), 22.0 * pair);
    }

    #[test]
    fn a_quarter_of_all_keys_is_padding_and_every_sequence_has_real_ones() {
        let padded = Heads { padded: true, ..heads(4, 64) };
        let real: Vec<_> = (0..4).map(|sequence| padded.real_keys(sequence)).collect();
        assert_eq!(real, [60, 52, 44, 36]);
        assert_eq!(Heads { padded: true, ..heads(3, 1) }.real_keys(2), 1);
    }
}
