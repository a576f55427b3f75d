//! What matmul is tested with.

use super::sizes::Sizes3;
use super::{Layout, Matmul};
use crate::ops::activation::Activation;
use crate::ops::op::Case;
use crate::ops::rng::Rng;
use crate::ops::tolerance::Tolerance;
use crate::tensor::{DType, Tensor};

/// One case before its operands are drawn.
struct Plan {
    label: &'static str,
    op: Matmul,
    lead: &'static [usize],
    mnk: [usize; 3],
    dtype: DType,
    x_dtype: DType,
    /// Whether y is stored in f16.
    narrow: bool,
    batched: bool,
    bias: bool,
    residual: bool,
    scale: f32,
}

impl Plan {
    fn new(label: &'static str, layout: Layout, mnk: [usize; 3]) -> Self {
        Self {
            label,
            op: Matmul::plain(layout),
            lead: &[],
            mnk,
            dtype: DType::F32,
            x_dtype: DType::F32,
            narrow: false,
            batched: false,
            bias: false,
            residual: false,
            scale: 1.0,
        }
    }

    fn dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    /// With x in f16.
    fn x_f16(self) -> Self {
        Self { x_dtype: DType::F16, ..self }
    }

    /// With y in f16.
    fn y_f16(self) -> Self {
        Self { narrow: true, ..self }
    }

    fn lead(self, lead: &'static [usize], batched: bool) -> Self {
        Self { lead, batched, ..self }
    }

    fn scale(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// With bias, activation and residual.
    fn epilogue(mut self, activation: Activation) -> Self {
        self.op.activation = activation;
        Self { bias: true, residual: true, ..self }
    }

    /// With a bias, and gates in even columns.
    fn gated(mut self, activation: Activation) -> Self {
        self.op = Matmul { activation, gated: true, ..self.op };
        Self { bias: true, ..self }
    }

    fn draw(self, rng: &mut Rng) -> Option<Case> {
        let [m, n, k] = self.mnk;
        let layout = self.op.layout;
        let shape = |lead: &[usize], rows, columns, transposed: bool| {
            let last = if transposed { [columns, rows] } else { [rows, columns] };
            crate::tensor::Shape::new(&[lead, &last].concat())
        };
        let mut tensor = |shape: crate::tensor::Shape, scale: f32| {
            let values = (0..shape.numel()).map(|_| rng.normal() * scale).collect();
            Tensor::f32(shape, values)
        };
        let x = tensor(shape(self.lead, m, k, layout.x_transposed()).ok()?, self.scale).ok()?;
        let x = x.cast(self.x_dtype).ok()?;
        let w_lead = if self.batched { self.lead } else { &[] };
        let weight = tensor(shape(w_lead, k, n, layout.w_transposed()).ok()?, 1.0).ok()?;
        let weight = weight.cast(self.dtype).ok()?;
        let bias = if self.bias { Some(tensor([n].into(), self.scale).ok()?) } else { None };
        let residual = if self.residual {
            Some(tensor(shape(self.lead, m, n, false).ok()?, self.scale).ok()?)
        } else {
            None
        };
        let bound = bound(&self.op, &x, &weight, bias.as_ref()).ok()?;
        let label = format!(
            "{} {layout:?} {}{} {}{}",
            self.label,
            x.meta(),
            weight.meta(),
            self.op.activation.name(),
            if self.op.gated { ", gated" } else { "" }
        );
        // Sums: k roundings of at most half a unit in the last place of the sum of magnitudes.
        // Activations: the erf fit is good to 5e-7, the others to a few units, and no slope
        // exceeds 1.13. The residual adds a rounding of the result.
        let relative = if self.op.activation == Activation::None { 1e-6 } else { 2e-6 };
        let tolerance = Tolerance::f32(1e-6, relative).with_bound(bound);
        let case =
            Case::new(label, self.op, vec![Some(x), Some(weight), bias, residual], tolerance);
        Some(if self.narrow { case.narrowed() } else { case })
    }
}

/// `c u sum_k |x w|` per element of y, with u = 2^-24 and c = k/4 + 8: the kernels add at
/// least four products apart before they join a sum, and a few more roundings follow. In long sums
/// c = 8 sqrt(k), since roundings go either way (Higham and Mary 2019).
fn bound(
    op: &Matmul,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> crate::error::Result<Vec<f64>> {
    let magnitudes = |t: &Tensor| -> crate::error::Result<Tensor> {
        Tensor::f32(t.shape(), t.to_f32()?.iter().map(|v| v.abs()).collect())
    };
    let s = Sizes3::new(op.layout, x.shape(), weight.shape());
    let plain = Matmul::plain(op.layout);
    let operands =
        [Some(magnitudes(x)?), Some(magnitudes(weight)?), bias.map(magnitudes).transpose()?, None];
    let tensors: Vec<_> = operands.iter().map(Option::as_ref).collect();
    let args = crate::ops::op::Args { op: "matmul", tensors: &tensors, sizes: &Default::default() };
    let k = s.k as f64;
    let c = (k / 4.0 + 8.0).min(8.0 * k.sqrt());
    let unit = 2f64.powi(-24);
    let sums = super::cpu::reference(&plain, &args)?.swap_remove(0);
    let bounds: Vec<_> = sums.as_f32()?.iter().map(|&v| c * unit * f64::from(v)).collect();
    if !op.gated {
        return Ok(bounds);
    }
    // The error of a product of two sums; no activation's slope exceeds 1.13. What both errors make
    // together is counted as for the widest of precisions, 2^13 times as wide.
    let tensors = [Some(x), Some(weight), bias, None];
    let args = crate::ops::op::Args { tensors: &tensors, ..args };
    let values = super::cpu::reference(&plain, &args)?.swap_remove(0);
    let pairs = values.as_f32()?.chunks_exact(2).zip(bounds.chunks_exact(2));
    let of_pair = |(value, bound): (&[f32], &[f64])| {
        let gate = op.activation.reference(f64::from(value[0])).abs();
        let up = f64::from(value[1]).abs();
        1.13 * bound[0] * (up + 8192.0 * bound[1]) + gate * bound[1]
    };
    Ok(pairs.map(of_pair).collect())
}

pub fn cases() -> Vec<Case> {
    use Activation::{GeluErf, GeluTanh, QuickGelu, Relu, Sigmoid, Silu, Tanh};
    use DType::{BF16, F16, I8};
    use Layout::{Nn, Nt, Tn, Tt};
    let plans = [
        Plan::new("one element", Nt, [1, 1, 1]),
        Plan::new("tiny, odd", Nt, [7, 5, 3]),
        Plan::new("tiny, odd", Nn, [7, 5, 3]),
        Plan::new("tiny, odd", Tn, [7, 5, 3]),
        Plan::new("tiny, odd", Tt, [7, 5, 3]),
        Plan::new("one step of four", Nt, [1, 1, 4]),
        Plan::new("one step of eight", Nt, [1, 1, 8]),
        Plan::new("a row", Nt, [1, 67, 264]),
        Plan::new("a row", Nn, [1, 68, 260]),
        Plan::new("a row, long sum", Nt, [1, 9, 4104]),
        Plan::new("a few rows", Nt, [3, 33, 520]),
        Plan::new("eight rows", Nt, [8, 64, 64]),
        Plan::new("nine rows", Nt, [9, 65, 68]),
        Plan::new("sixteen rows", Nt, [16, 63, 36]),
        Plan::new("tile - 1", Nt, [31, 63, 64]),
        Plan::new("tile", Nt, [32, 64, 64]),
        Plan::new("tile + 1", Nt, [33, 65, 68]),
        Plan::new("tile + 1", Nn, [33, 68, 68]),
        Plan::new("primes", Nt, [61, 127, 131]),
        Plan::new("primes", Nn, [67, 71, 73]),
        Plan::new("primes", Tt, [37, 41, 43]),
        Plan::new("tall", Nt, [385, 66, 8]),
        Plan::new("tall", Nn, [391, 256, 12]),
        Plan::new("wide", Nt, [257, 260, 20]),
        Plan::new("whole tiles", Nt, [256, 256, 64]).dtype(F16),
        Plan::new("whole tiles", Nn, [128, 256, 96]),
        Plan::new("ragged tiles", Nt, [130, 70, 50]).epilogue(GeluErf),
        Plan::new("ragged tiles", Nn, [130, 72, 40]).epilogue(Silu).dtype(BF16),
        Plan::new("ragged tiles", Tn, [130, 70, 50]).epilogue(Relu),
        Plan::new("ragged tiles", Tt, [129, 72, 88]).dtype(F16),
        Plan::new("one weight for a batch", Nt, [6, 21, 40]).lead(&[2, 3], false),
        Plan::new("one weight for a batch", Tn, [6, 21, 9]).lead(&[3], false),
        Plan::new("a weight per batch", Nt, [7, 21, 40]).lead(&[3], true),
        Plan::new("a weight per batch", Nn, [33, 36, 16]).lead(&[2, 2], true),
        Plan::new("a weight per batch, odd", Nn, [7, 9, 5]).lead(&[3], true),
        Plan::new("half", Nt, [1, 40, 136]).dtype(F16),
        Plan::new("half", Nt, [33, 66, 68]).dtype(F16),
        Plan::new("half", Nn, [12, 36, 40]).dtype(F16),
        Plan::new("half, odd", Nt, [5, 9, 7]).dtype(F16),
        Plan::new("half, odd, batch", Nn, [5, 7, 3]).dtype(F16).lead(&[3], true),
        Plan::new("bfloat", Nt, [1, 41, 136]).dtype(BF16),
        Plan::new("bfloat", Nt, [33, 66, 68]).dtype(BF16),
        Plan::new("bfloat, odd", Nn, [5, 9, 7]).dtype(BF16),
        Plan::new("blocks", Nt, [1, 41, 32]).dtype(I8),
        Plan::new("blocks", Nt, [1, 66, 4128]).dtype(I8),
        Plan::new("blocks", Nt, [7, 35, 160]).dtype(I8),
        Plan::new("blocks", Nt, [33, 67, 96]).dtype(I8),
        Plan::new("blocks", Nt, [385, 66, 64]).dtype(I8),
        Plan::new("blocks", Tt, [13, 37, 96]).dtype(I8),
        Plan::new("blocks, a weight per batch", Nt, [5, 21, 96]).dtype(I8).lead(&[3], true),
        Plan::new("blocks, one weight for a batch", Nt, [6, 21, 64]).dtype(I8).lead(&[2, 3], false),
        Plan::new("blocks, epilogue", Nt, [1, 40, 64]).dtype(I8).epilogue(GeluErf),
        Plan::new("blocks, epilogue", Nt, [33, 40, 64]).dtype(I8).epilogue(Silu),
        Plan::new("blocks, small values", Nt, [12, 40, 64]).dtype(I8).scale(1e-4),
        Plan::new("epilogue", Nt, [1, 40, 64]).epilogue(Relu),
        Plan::new("epilogue", Nt, [33, 65, 64]).epilogue(GeluErf),
        Plan::new("epilogue", Nt, [12, 40, 64]).epilogue(GeluTanh),
        Plan::new("epilogue", Nt, [1, 40, 64]).epilogue(Tanh),
        Plan::new("epilogue", Nt, [1, 40, 64]).epilogue(Silu),
        Plan::new("epilogue", Nt, [1, 40, 64]).epilogue(QuickGelu),
        Plan::new("epilogue", Nt, [1, 40, 64]).epilogue(Sigmoid),
        Plan::new("epilogue, odd", Nn, [5, 7, 9]).epilogue(GeluErf),
        Plan::new("small values", Nt, [12, 40, 64]).scale(1e-4),
        Plan::new("large values", Nt, [12, 40, 64]).scale(1e18),
        Plan::new("large values", Nt, [1, 40, 64]).epilogue(GeluErf).scale(1e18),
        Plan::new("large values", Nt, [1, 40, 64]).epilogue(GeluTanh).scale(1e18),
        Plan::new("large values", Nt, [1, 40, 64]).epilogue(Silu).scale(1e18),
    ];
    let mut rng = Rng::new(2);
    plans
        .into_iter()
        .chain(halves())
        .chain(gated())
        .filter_map(|plan| plan.draw(&mut rng))
        .collect()
}

/// x in f16, y in f16, and both, as between the products of a model.
fn halves() -> impl Iterator<Item = Plan> {
    use Activation::{GeluErf, GeluTanh, Relu, Silu};
    use DType::{BF16, F16, I8};
    use Layout::{Nn, Nt, Tn, Tt};
    let x = [
        Plan::new("f16 x, one element", Nt, [1, 1, 1]),
        Plan::new("f16 x, odd", Nt, [7, 5, 3]),
        Plan::new("f16 x, odd", Nn, [7, 5, 3]),
        Plan::new("f16 x, odd", Tn, [7, 5, 3]).dtype(F16),
        Plan::new("f16 x, odd", Tt, [37, 41, 43]),
        Plan::new("f16 x, pairs", Nt, [9, 6, 10]),
        Plan::new("f16 x, a row", Nt, [1, 67, 264]),
        Plan::new("f16 x, a row", Nt, [1, 41, 136]).dtype(F16),
        Plan::new("f16 x, a few rows", Nt, [3, 33, 520]).dtype(BF16),
        Plan::new("f16 x, blocks", Nt, [5, 35, 160]).dtype(I8),
        Plan::new("f16 x, tile + 1", Nt, [33, 65, 68]),
        Plan::new("f16 x, tile + 1", Nn, [41, 68, 68]).dtype(F16),
        Plan::new("f16 x, tall", Nt, [391, 66, 12]).epilogue(Relu),
        Plan::new("f16 x, whole tiles", Nt, [256, 256, 64]).dtype(F16),
        Plan::new("f16 x, whole tiles", Nn, [128, 256, 96]),
        Plan::new("f16 x, ragged tiles", Nt, [130, 70, 50]).epilogue(GeluErf),
        Plan::new("f16 x, ragged tiles", Tt, [129, 72, 88]).dtype(F16),
        Plan::new("f16 x, a weight per batch", Nt, [7, 21, 40]).lead(&[3], true),
        Plan::new("f16 x, a weight per batch, odd", Nn, [7, 9, 5]).lead(&[3], true),
    ]
    .map(Plan::x_f16);
    let y = [
        Plan::new("one element", Nt, [1, 1, 1]),
        Plan::new("odd", Nt, [7, 5, 3]),
        Plan::new("odd", Tn, [7, 5, 3]).epilogue(Silu),
        Plan::new("a row", Nt, [1, 67, 264]).epilogue(GeluErf),
        Plan::new("a few rows", Nt, [3, 33, 520]).dtype(F16).epilogue(GeluTanh),
        Plan::new("eleven rows", Nt, [11, 35, 36]).dtype(F16),
        Plan::new("tile + 1", Nt, [33, 65, 68]).epilogue(Relu),
        Plan::new("tile + 1", Nn, [33, 68, 68]).dtype(BF16),
        Plan::new("tall", Nt, [391, 67, 12]).epilogue(GeluErf),
        Plan::new("large tiles", Nn, [261, 259, 20]),
        Plan::new("a weight per batch", Nt, [7, 21, 40]).lead(&[3], true),
        // Many results are beyond the range of f16.
        Plan::new("large values", Nt, [5, 33, 264]).scale(6e3),
        Plan::new("large values", Nn, [35, 70, 100]).scale(1e4).epilogue(Relu),
        Plan::new("small values", Nt, [12, 40, 64]).scale(1e-6),
    ]
    .map(Plan::y_f16);
    let both = [
        Plan::new("f16 x, a row", Nt, [1, 41, 136]).dtype(F16).epilogue(Silu),
        Plan::new("f16 x, twelve rows", Nt, [12, 68, 72]).epilogue(GeluErf),
        Plan::new("f16 x, tile + 1", Nt, [41, 66, 68]).dtype(F16).epilogue(GeluTanh),
        Plan::new("f16 x, odd", Nt, [67, 71, 73]).epilogue(Relu),
    ]
    .map(|plan| plan.x_f16().y_f16());
    x.into_iter().chain(y).chain(both)
}

/// Inner layers of gated feed-forwards, on every kernel.
fn gated() -> impl Iterator<Item = Plan> {
    use Activation::{GeluErf, GeluTanh, Relu, Silu};
    use DType::{BF16, F16, I8};
    use Layout::{Nn, Nt, Tn};
    let f32 = [
        Plan::new("one pair", Nt, [1, 2, 1]).gated(Silu),
        Plan::new("a row", Nt, [1, 70, 264]).gated(Silu),
        Plan::new("a row", Nt, [1, 66, 136]).gated(GeluTanh).dtype(F16),
        Plan::new("a row of blocks", Nt, [1, 66, 160]).gated(Silu).dtype(I8),
        Plan::new("a few rows", Nt, [5, 34, 520]).gated(GeluErf).dtype(BF16),
        Plan::new("odd", Nn, [5, 10, 7]).gated(Relu),
        Plan::new("eleven rows", Nt, [11, 38, 36]).gated(Silu),
        Plan::new("tile + 1", Nt, [41, 70, 68]).gated(Silu),
        Plan::new("ragged tiles", Tn, [130, 70, 50]).gated(Silu).dtype(F16),
        Plan::new("whole tiles", Nt, [256, 256, 64]).gated(Silu).dtype(F16),
        Plan::new("a batch", Nt, [3, 22, 40]).gated(Silu).lead(&[2, 3], false),
    ];
    let halves = [
        Plan::new("f16 x, a row", Nt, [1, 42, 136]).dtype(F16).gated(Silu),
        Plan::new("f16 x, tile + 1", Nt, [41, 66, 68]).dtype(F16).gated(GeluTanh),
        Plan::new("f16 x, whole tiles", Nt, [128, 256, 96]).dtype(F16).gated(Silu),
    ]
    .map(|plan| plan.x_f16().y_f16());
    f32.into_iter().chain(halves)
}

/// Sums of many products, and as many columns as the largest vocabulary has.
pub fn long_cases() -> Vec<Case> {
    use Layout::{Nt, Tn};
    let plans = [
        Plan::new("long sum, odd", Nt, [2, 3, 100_003]).dtype(DType::F16),
        Plan::new("long sum, odd", Tn, [2, 3, 100_003]),
        Plan::new("long sum", Nt, [1, 9, 100_008]),
        Plan::new("many columns", Nt, [1, 262_144, 3]),
    ];
    let mut rng = Rng::new(3);
    plans.into_iter().filter_map(|plan| plan.draw(&mut rng)).collect()
}
