//! `y = act(x weight + bias) + residual`, the matrix product with its epilogue.
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
//! y and residual `[.., m, n]` f32; bias `[n]` f32; x f32; weight f32, f16 or bf16, either one
//! matrix for all of x or one per leading index of x. Sums are accumulated in f32.

mod cases;
mod cpu;

use std::str::FromStr;
use std::sync::Arc;

use super::{Activation, Args, Built, Call, Cost, Dispatch, Entry, Kernel, Needs, Op, Request};
use crate::error::{Error, Result};
use crate::gpu::{ParamBytes, Spec, fold};
use crate::tensor::{DType, Dim, Shape, SymMeta, Tensor};

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
    /// Applied after the bias, before the residual.
    pub activation: Activation,
}

impl Matmul {
    /// A linear layer as `torch.nn.Linear` stores it.
    pub fn linear() -> Self {
        Self { layout: Layout::Nt, activation: Activation::None }
    }
}

crate::params! {
    /// Twin of `Params` in `shaders/shared/matmul_params.wgsl`.
    struct Params {
        m: u32,
        n: u32,
        k: u32,
        batch: u32,
        w_batch_stride: u32,
        y_row_stride: u32,
        n_offset: u32,
        batch_offset: u32,
    }
}

/// The sizes of one product. With one weight for all of x, and x not transposed, all rows of x
/// are one matrix and `batch` is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sizes3 {
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
    w_batch_stride: usize,
}

impl Sizes3 {
    fn new(layout: Layout, x: Shape, weight: Shape) -> Self {
        let (xd, wd) = (x.dims(), weight.dims());
        let (a, b) = (xd.get(xd.len().wrapping_sub(2)).copied().unwrap_or(1), x.last());
        let (m, k) = if layout.x_transposed() { (b, a) } else { (a, b) };
        let (a, b) = (wd.get(wd.len().wrapping_sub(2)).copied().unwrap_or(1), weight.last());
        let n = if layout.w_transposed() { a } else { b };
        let batch = x.numel().checked_div(m * k).unwrap_or(0);
        let shared = weight.numel() == n * k;
        match (shared, layout.x_transposed()) {
            (true, false) => Self { batch: 1, m: m * batch, n, k, w_batch_stride: 0 },
            (true, true) => Self { batch, m, n, k, w_batch_stride: 0 },
            (false, _) => Self { batch, m, n, k, w_batch_stride: n * k },
        }
    }
}

/// How a variant covers the result.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tile {
    /// Up to `rows` rows and 8 columns per workgroup.
    Gemv { rows: u32 },
    /// 8 `blocks` rows by 8 columns per lane.
    Subgroup { blocks: u32 },
    /// A square of this side; `quads`: 16-byte loads, for whole groups of four.
    Tiled { side: u32, quads: bool },
}

const fn kernel(name: &'static str, tile: Tile) -> Kernel {
    let source = match tile {
        Tile::Gemv { .. } => crate::shader!("matmul_gemv"),
        Tile::Subgroup { .. } => crate::shader!("matmul_subgroup"),
        Tile::Tiled { .. } => crate::shader!("matmul_tiled"),
    };
    let needs = match tile {
        Tile::Gemv { .. } => Needs::NOTHING,
        // CPU drivers: wider subgroups belong to devices whose workgroup memory is fast.
        Tile::Subgroup { .. } => Needs { subgroup: Some((4, 8)), ..Needs::NOTHING },
        Tile::Tiled { side, .. } => Needs { invocations: side * side / 64, ..Needs::NOTHING },
    };
    Kernel { name, source, params: Params::FIELDS, trusted: true, needs }
}

/// Preferred first. The subgroup tiles differ in height: rows beyond m cost as much as rows
/// below it. 40 rows make the most of a load, 32 divide common batches.
const TABLE: [(&str, Tile); 9] = [
    ("matmul_gemv", Tile::Gemv { rows: 1 }),
    ("matmul_subgroup_8", Tile::Subgroup { blocks: 1 }),
    ("matmul_subgroup_16", Tile::Subgroup { blocks: 2 }),
    ("matmul_subgroup_40", Tile::Subgroup { blocks: 5 }),
    ("matmul_subgroup_32", Tile::Subgroup { blocks: 4 }),
    ("matmul_gemv_8", Tile::Gemv { rows: 8 }),
    ("matmul_tiled_128", Tile::Tiled { side: 128, quads: true }),
    ("matmul_tiled_quads", Tile::Tiled { side: 64, quads: true }),
    ("matmul_tiled", Tile::Tiled { side: 64, quads: false }),
];

static KERNELS: [Kernel; TABLE.len()] = {
    let mut kernels = [const { kernel(TABLE[0].0, TABLE[0].1) }; TABLE.len()];
    let mut i = 0;
    while i < TABLE.len() {
        kernels[i] = kernel(TABLE[i].0, TABLE[i].1);
        i += 1;
    }
    kernels
};

/// Rows from which the tallest subgroup tile wins whatever the remainder.
const TALL_ROWS: usize = 384;

fn tile_of(kernel: &Kernel) -> Tile {
    let row = TABLE.iter().find(|(name, _)| *name == kernel.name);
    row.map_or(Tile::Tiled { side: 64, quads: false }, |&(_, tile)| tile)
}

impl Matmul {
    fn sizes(&self, call: &Call<'_>) -> Sizes3 {
        Sizes3::new(self.layout, call.input(X).shape, call.input(WEIGHT).shape)
    }
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
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
        if x.dtype != DType::F32 || !weight.dtype.is_float() {
            return fail(format!("x {x} must be f32 and weight {weight} f32, f16 or bf16"));
        }
        let [x_lead @ .., xa, xb] = x.dims.as_slice() else {
            return fail(format!("x {x} must have at least two dimensions"));
        };
        let [w_lead @ .., wa, wb] = weight.dims.as_slice() else {
            return fail(format!("weight {weight} must have at least two dimensions"));
        };
        let (m, k) = if self.layout.x_transposed() { (xb, xa) } else { (xa, xb) };
        let (n, w_k) = if self.layout.w_transposed() { (wa, wb) } else { (wb, wa) };
        let (Dim::Const(1..), Dim::Const(1..)) = (n, w_k) else {
            return fail(format!("weight {weight}: the last two dimensions must be fixed, not 0"));
        };
        if k != w_k {
            let layout = self.layout;
            return fail(format!("x {x} and weight {weight} differ in k (layout {layout:?})"));
        }
        let one = w_lead.iter().all(|d| *d == Dim::Const(1));
        if !one && w_lead != x_lead {
            return fail(format!("weight {weight} must be one matrix or lead like x {x}"));
        }
        let mut dims = x_lead.to_vec();
        dims.extend([*m, *n]);
        let y = SymMeta { dims, dtype: DType::F32 };
        if let Some(bias) = bias.as_ref().filter(|b| **b != SymMeta::f32([*n])) {
            return fail(format!("bias {bias} must be {} for weight {weight}", SymMeta::f32([*n])));
        }
        if let Some(residual) = residual.as_ref().filter(|r| **r != y) {
            return fail(format!("residual {residual} must equal the result {y}"));
        }
        Ok(vec![y])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        cpu::reference(self, args)
    }

    fn run_cpu(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        cpu::fast(self, args)
    }

    fn kernels(&self) -> &'static [Kernel] {
        &KERNELS
    }

    // Conditions on m are one-sided, so that a plan that compiled for the sizes it probed finds
    // a kernel for every size between.
    fn accepts(&self, kernel: &Kernel, call: &Call<'_>) -> bool {
        let s = self.sizes(call);
        let (x_t, w_t) = (self.layout.x_transposed(), self.layout.w_transposed());
        let quads = !x_t && s.k.is_multiple_of(4) && (w_t || s.n.is_multiple_of(4));
        match tile_of(kernel) {
            Tile::Gemv { rows } => !x_t && w_t && s.k.is_multiple_of(8) && s.m <= rows as usize,
            Tile::Subgroup { blocks: 5 } => quads && s.m >= TALL_ROWS,
            Tile::Subgroup { blocks: 4 } => quads,
            Tile::Subgroup { blocks } => quads && s.m <= 8 * blocks as usize,
            Tile::Tiled { side: 128, .. } => quads && s.m >= 256 && s.n >= 256,
            Tile::Tiled { quads: needed, .. } => quads || !needed,
        }
    }

    fn spec(&self, kernel: &Kernel, call: &Call<'_>) -> Spec {
        let tile = tile_of(kernel);
        let mut spec = Spec::new()
            .set("ACT", self.activation.code())
            .set("HAS_BIAS", call.has(BIAS))
            .set("HAS_RESIDUAL", call.has(RESIDUAL));
        // The same weights read eight, four or one at a time.
        let [eight, four, one] = match call.input(WEIGHT).dtype {
            DType::F16 => ["weight8_f16", "weight_f16", "weight_f16_scalar"],
            DType::BF16 => ["weight8_bf16", "weight_bf16", "weight_bf16_scalar"],
            _ => ["weight8_f32", "weight_f32", "weight_f32_scalar"],
        };
        match tile {
            Tile::Gemv { rows } => {
                spec = spec.import("weight8_f32", eight).set("ROWS", rows);
                if let Some(size) = call.caps.subgroup {
                    spec = spec.import("reduce_workgroup", "reduce_subgroup").set("THREADS", size);
                }
                spec
            }
            Tile::Subgroup { blocks } => spec
                .import("weight_f32", four)
                .set("W_TRANSPOSED", self.layout.w_transposed())
                .set("ROW_BLOCKS", blocks)
                .set("SUBGROUP", call.caps.subgroup.unwrap_or(8)),
            Tile::Tiled { side, quads } => {
                spec = spec
                    .import("weight_f32_scalar", if quads { four } else { one })
                    .set("X_TRANSPOSED", self.layout.x_transposed())
                    .set("W_TRANSPOSED", self.layout.w_transposed())
                    .set("TILE_M", side)
                    .set("TILE_N", side);
                if quads { spec.import("x_scalar", "x_vec4") } else { spec }
            }
        }
    }

    fn dispatch(&self, kernel: &Kernel, call: &Call<'_>) -> Dispatch {
        let mut s = self.sizes(call);
        let total_n = s.n;
        let (mut n_offset, mut batch_offset) = (0, 0);
        if let Some(part) = call.part {
            // The parted first dimension is n, or the first of the weight's leading dimensions.
            if s.w_batch_stride == 0 {
                (s.n, n_offset) = (part.rows, part.first);
            } else {
                let first = call.input(WEIGHT).shape.dims().first().copied().unwrap_or(1).max(1);
                let per_row = s.batch / first;
                (s.batch, batch_offset) = (part.rows * per_row, part.first * per_row);
            }
        }
        let (tile_m, tile_n) = match tile_of(kernel) {
            Tile::Gemv { rows } => (rows, 8),
            Tile::Subgroup { blocks } => (8 * blocks, 8 * call.caps.subgroup.unwrap_or(8)),
            Tile::Tiled { side, .. } => (side, side),
        };
        let tiles = s.m.div_ceil(tile_m as usize) * s.n.div_ceil(tile_n as usize);
        let params = Params {
            m: s.m as u32,
            n: s.n as u32,
            k: s.k as u32,
            batch: s.batch as u32,
            w_batch_stride: s.w_batch_stride as u32,
            y_row_stride: total_n as u32,
            n_offset: n_offset as u32,
            batch_offset: batch_offset as u32,
        };
        Dispatch { params: ParamBytes::of(&params), grid: fold(s.batch * tiles) }
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
    // Call descriptions may repeat the sizes; the shapes say them already.
    for key in ["m", "n", "k", "batch", "broadcast"] {
        request.get::<String>(key)?;
    }
    Ok((Arc::new(Matmul { layout, activation }), inputs))
}
