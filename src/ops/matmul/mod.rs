//! `y = act(x weight + bias) + residual`, the matrix product with its epilogue; or, gated,
//! `y[j] = act(s[2j]) s[2j + 1]` with `s = x weight + bias`, the inner layer of a gated feed-forward
//! whose gates and what they scale alternate.
//!
//! Shapes by layout (first letter x, second weight; T: stored transposed):
//!
//! | layout | x | weight |
//! |---|---|---|
//! | NN | `[.., m, k]` | `[k, n]` |
//! | NT | `[.., m, k]` | `[n, k]`, as `torch.nn.Linear` stores it |
//! | TN | `[.., k, m]` | `[k, n]` |
//! | TT | `[.., k, m]` | `[n, k]` |
//!
//! y and residual `[.., m, n]` f32, y `[.., m, n / 2]` if gated; bias `[n]` f32; x f32 or f16; weight f32, f16 or bf16, or q8_0
//! where it is stored `[n, k]`, either one matrix for all of x or one per leading index of x. Sums
//! are accumulated in f32. y may be stored in f16.

mod cases;
mod cooperative;
mod cpu;
mod gemv;
mod launch;
mod sizes;
mod subgroup;
mod tiled;

use std::str::FromStr;
use std::sync::Arc;

use cooperative::Cooperative;
use gemv::Gemv;
use sizes::Sizes3;
use subgroup::Subgroup;
use tiled::Tiled;

use super::activation::Activation;
use super::op::{Args, Built, Call, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, SymMeta, Tensor};

const X: usize = 0;
const WEIGHT: usize = 1;
const BIAS: usize = 2;
const RESIDUAL: usize = 3;

/// How the operands are stored: first letter x, second weight; T means transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// x `[m, k]`, weight `[k, n]`
    Nn,
    /// x `[m, k]`, weight `[n, k]`
    Nt,
    /// x `[k, m]`, weight `[k, n]`
    Tn,
    /// x `[k, m]`, weight `[n, k]`
    Tt,
}

impl Layout {
    /// Whether x is stored `[k, m]`.
    pub const fn x_transposed(self) -> bool {
        matches!(self, Self::Tn | Self::Tt)
    }

    /// Whether the weight is stored `[n, k]`.
    pub const fn w_transposed(self) -> bool {
        matches!(self, Self::Nt | Self::Tt)
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "nn" => Ok(Self::Nn),
            "nt" => Ok(Self::Nt),
            "tn" => Ok(Self::Tn),
            "tt" => Ok(Self::Tt),
            _ => Err(Error::Argument(format!("no layout `{text}`; there are NN, NT, TN, TT"))),
        }
    }
}

/// Matrix product with epilogue; operands `x weight bias? residual?`.
#[derive(Clone, Debug, PartialEq)]
pub struct Matmul {
    /// Storage of x and weight.
    pub layout: Layout,
    /// Applied after the bias, before the residual; to gates alone if gated.
    pub activation: Activation,
    /// Whether even columns of the product are gates of the odd ones behind them. There is no
    /// residual then. Source: Shazeer 2020, "GLU Variants Improve Transformer".
    pub gated: bool,
}

impl Matmul {
    /// A linear layer as `torch.nn.Linear` stores it.
    pub fn linear() -> Self {
        Self::plain(Layout::Nt)
    }

    /// The product alone.
    pub fn plain(layout: Layout) -> Self {
        Self { layout, activation: Activation::None, gated: false }
    }

    /// Columns of y for so many of the product.
    fn columns(&self, n: usize) -> usize {
        if self.gated { n / 2 } else { n }
    }
}

/// A subgroup's rows beyond m cost as much as rows below it: 40 rows make the most of a load, 32
/// divide common batches.
static KERNELS: [&dyn Kernel; 11] = [
    &Gemv::new("matmul_gemv", 1),
    &Subgroup::new("matmul_subgroup_8", 1),
    &Subgroup::new("matmul_subgroup_16", 2),
    &Subgroup::new("matmul_subgroup_40", 5),
    &Subgroup::new("matmul_subgroup_32", 4),
    &Gemv::new("matmul_gemv_8", 8),
    &Cooperative::new("matmul_cooperative", 4, 32),
    &Cooperative::new("matmul_cooperative_small", 2, 64),
    &Tiled::new("matmul_tiled_128", 128, true),
    &Tiled::new("matmul_tiled_quads", 64, true),
    &Tiled::new("matmul_tiled", 64, false),
];

impl Matmul {
    fn sizes(&self, call: &Call<'_>) -> Sizes3 {
        Sizes3::new(self.layout, call.input(X).shape, call.input(WEIGHT).shape)
    }
}

impl Op for Matmul {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x", "weight", "bias", "residual"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("matmul", message));
        let [Some(x), Some(weight), bias, residual] = inputs else {
            return fail("expected operands x, weight, bias?, residual?".to_owned());
        };
        if !matches!(x.dtype, DType::F32 | DType::F16) || !weight.dtype.is_weight() {
            let message =
                format!("x {x} must be f32 or f16 and weight {weight} f32, f16, bf16 or q8_0");
            return fail(message);
        }
        if weight.dtype == DType::I8 && !self.takes_blocks(WEIGHT) {
            let layout = self.layout;
            return fail(format!("weight {weight} must be stored [n, k], not as in {layout:?}"));
        }
        let [x_lead @ .., xa, xb] = x.dims.as_slice() else {
            return fail(format!("x {x} must have at least two dimensions"));
        };
        let [w_lead @ .., wa, wb] = weight.dims.as_slice() else {
            return fail(format!("weight {weight} must have at least two dimensions"));
        };
        let (m, k) = if self.layout.x_transposed() { (xb, xa) } else { (xa, xb) };
        let (n, w_k) = if self.layout.w_transposed() { (wa, wb) } else { (wb, wa) };
        let (&Dim::Const(columns @ 1..), Dim::Const(1..)) = (n, w_k) else {
            return fail(format!("weight {weight}: the last two dimensions must be fixed, not 0"));
        };
        if self.gated && (columns % 2 == 1 || residual.is_some()) {
            return fail(format!(
                "weight {weight} must have gates and as many others, no residual"
            ));
        }
        if k != w_k {
            let layout = self.layout;
            return fail(format!("x {x} and weight {weight} differ in k (layout {layout:?})"));
        }
        let one = w_lead.iter().all(|d| *d == Dim::Const(1));
        if !one && w_lead != x_lead {
            return fail(format!("weight {weight} must be one matrix or lead like x {x}"));
        }
        let mut dims = x_lead.to_vec();
        dims.extend([*m, Dim::Const(self.columns(columns))]);
        let y = SymMeta { dims, dtype: DType::F32 };
        if let Some(bias) = bias.as_ref().filter(|b| **b != SymMeta::f32([*n])) {
            return fail(format!("bias {bias} must be {} for weight {weight}", SymMeta::f32([*n])));
        }
        if let Some(residual) = residual.as_ref().filter(|r| **r != y) {
            return fail(format!("residual {residual} must equal the result {y}"));
        }
        Ok(vec![y])
    }

    fn takes_blocks(&self, i: usize) -> bool {
        // Blocks lie along the weight's innermost dimension, which must be the one summed over.
        i == WEIGHT && self.layout.w_transposed()
    }

    fn reads_f16(&self, i: usize) -> bool {
        i == X
    }

    fn stores_f16(&self, _i: usize) -> bool {
        true
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        cpu::reference(self, args)
    }

    fn run_cpu(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        cpu::fast(self, args)
    }

    fn drawn(&self, rng: &mut Rng) -> Option<Arc<dyn Op>> {
        let activation = Activation::of_number(rng.below(64));
        Some(Arc::new(Self { activation, ..self.clone() }))
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        let s = self.sizes(call);
        Cost::new(2.0 * (s.batch * s.m) as f64 * (s.n * s.k) as f64, call)
    }

    fn splittable(&self) -> Option<usize> {
        (self.layout == Layout::Nt).then_some(WEIGHT)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "matmul",
    aliases: &["linear"],
    summary: "y = act(x weight + bias) + residual",
    kernels: &KERNELS,
    cases: cases::cases,
    long_cases: cases::long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let linear = request.op() == "linear";
    let x = request.need(&["x", "a"])?;
    let weight = request.need(&["weight", "w", "b"])?;
    let inputs = vec![Some(x), Some(weight), request.take(&["bias"]), request.take(&["residual"])];
    let layout = request.get("layout")?;
    let layout = layout.unwrap_or(if linear { Layout::Nt } else { Layout::Nn });
    let activation = request.get("activation")?.unwrap_or_default();
    let gated = request.get("gated")?.unwrap_or(false);
    // Call descriptions may repeat the sizes; the shapes say them already.
    for key in ["m", "n", "k", "batch", "broadcast"] {
        request.get::<String>(key)?;
    }
    Ok((Arc::new(Matmul { layout, activation, gated }), inputs))
}
