//! How the kernels over rows (norms, softmax) are chosen, specialised and dispatched.
//!
//! Such an op has up to two shaders: one holds a row in the registers of one subgroup, the other
//! reads it again for every pass. All walk `rows_per_group` rows per workgroup.

use super::kernel::{Dispatch, Needs, Stage};
use super::op::{Call, Kernel, Op};
use super::rounds::{self, MAX_ROUNDS};
use super::store::stored;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Field, ParamBytes, ShaderSource, Spec, fold};
use crate::tensor::{DType, Shape, SymMeta};

/// Vectors of 4 per lane that still fit the registers of a GPU.
const GPU_VECS: usize = 16;
/// The same for a software driver, which unrolls loops of at most 32 rounds; beyond, lavapipe
/// compiles for seconds.
const SOFTWARE_VECS: usize = 32;
/// Rows per workgroup on a software driver, where columns' operands are kept for all of them.
const SOFTWARE_ROWS: usize = 32;

/// What the kernels over rows of one op share.
pub(super) struct RowOp<O> {
    /// Field table of the shaders' `Params`.
    pub params: &'static [Field],
    /// Whether the streaming shader can read four values at a time.
    pub vectors: bool,
    /// How often the streaming shader walks a row.
    pub walks: u64,
    /// How often it reduces what its lanes hold, at most.
    pub reductions: u64,
    /// The matrix whose rows are worked on.
    pub x: fn(&Call<'_>) -> Shape,
    /// Adds the op's own consts and imports.
    pub spec: fn(&O, &Call<'_>, Spec) -> Spec,
    /// The parameter block for so many rows per workgroup.
    pub pack: fn(&O, Shape, u32) -> ParamBytes,
}

/// The first operand, as most ops take their rows.
pub(super) fn first_operand(call: &Call<'_>) -> Shape {
    call.input(0).shape
}

/// The three ways to work on rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A row in the registers of one subgroup.
    Registers,
    /// A row streamed by one subgroup.
    Subgroup,
    /// A row streamed by one workgroup.
    Workgroup,
}

/// A kernel over rows.
pub(super) struct Rows<O: 'static> {
    name: &'static str,
    way: Way,
    stages: [Stage; 1],
    of: &'static RowOp<O>,
}

impl<O> Rows<O> {
    const fn new(
        name: &'static str,
        way: Way,
        source: ShaderSource,
        of: &'static RowOp<O>,
    ) -> Self {
        Self { name, way, stages: [Stage::trusted(source, of.params)], of }
    }

    /// Each row in the registers of one subgroup.
    pub const fn registers(
        name: &'static str,
        source: ShaderSource,
        of: &'static RowOp<O>,
    ) -> Self {
        Self::new(name, Way::Registers, source, of)
    }

    /// Each row streamed by one subgroup.
    pub const fn subgroup(name: &'static str, source: ShaderSource, of: &'static RowOp<O>) -> Self {
        Self::new(name, Way::Subgroup, source, of)
    }

    /// Each row streamed by one workgroup.
    pub const fn workgroup(
        name: &'static str,
        source: ShaderSource,
        of: &'static RowOp<O>,
    ) -> Self {
        Self::new(name, Way::Workgroup, source, of)
    }
}

impl<O: Op> Rows<O> {
    /// Invocations that share a row.
    fn threads(&self, call: &Call<'_>) -> u32 {
        match self.way {
            Way::Workgroup => threads((self.of.x)(call).last(), call.caps),
            _ => lanes(call.caps),
        }
    }

    /// Values that a streaming shader reads at a time.
    fn width(&self, cols: usize) -> usize {
        let streams = self.way != Way::Registers;
        if streams && self.of.vectors && cols.is_multiple_of(4) { 4 } else { 1 }
    }

    fn rounds_per_row(&self, call: &Call<'_>) -> u64 {
        let cols = (self.of.x)(call).last();
        let threads = self.threads(call);
        let walk = rounds::of_loop((cols / self.width(cols)).div_ceil(threads as usize), 0);
        match self.way {
            // Every loop over the columns is marked.
            Way::Registers => 0,
            Way::Subgroup => self.of.walks * walk,
            Way::Workgroup => self.of.walks * walk + self.of.reductions * rounds::of_tree(threads),
        }
    }

    /// Rows of a workgroup: several on a software driver, but at least 64 workgroups where there are
    /// as many rows, so that all cores get a share, and no more than its loops have rounds for.
    fn rows_per_group(&self, call: &Call<'_>) -> usize {
        if !call.caps.software {
            return 1;
        }
        let shared = ((self.of.x)(call).rows() / 64).clamp(1, SOFTWARE_ROWS);
        let bounded = (MAX_ROUNDS - 1) / (1 + self.rounds_per_row(call));
        shared.min(bounded as usize).max(1)
    }
}

impl<O: Op> Kernel for Rows<O> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> Needs {
        match self.way {
            Way::Workgroup => Needs::NOTHING,
            _ => Needs { subgroup: Some((4, 64)), ..Needs::NOTHING },
        }
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn fits(&self, call: &Call<'_>) -> bool {
        let cols = (self.of.x)(call).last();
        let limit = if call.caps.software { SOFTWARE_VECS } else { GPU_VECS };
        self.way != Way::Registers
            || cols.is_multiple_of(4) && cols <= 4 * limit * lanes(call.caps) as usize
    }

    fn rank(&self, call: &Call<'_>) -> f32 {
        // One subgroup that streams a long row leaves a GPU idle; on a software driver barriers
        // cost more than that.
        let cols = (self.of.x)(call).last();
        let short = call.caps.software || cols <= 16 * lanes(call.caps) as usize;
        match self.way {
            Way::Registers => 1.0,
            Way::Subgroup if short => 2.0,
            Way::Workgroup => 3.0,
            Way::Subgroup => 4.0,
        }
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        let cols = (self.of.x)(call).last();
        let spec = Spec::new().set("THREADS", self.threads(call));
        let spec = match self.way {
            Way::Registers => spec.set("COLS", cols as u32).set("KEEP_COLUMNS", call.caps.software),
            Way::Subgroup => spec.import("reduce_workgroup", "reduce_subgroup"),
            Way::Workgroup => spec,
        };
        let spec = match self.width(cols) {
            4 => spec.import("elem_f32", "elem_vec4"),
            _ => spec,
        };
        let vectors = self.way == Way::Registers || self.width(cols) == 4;
        let spec = if call.op.stores_f16(0) { stored(spec, call, vectors) } else { spec };
        Ok((self.of.spec)(call.instance()?, call, spec))
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        let x = (self.of.x)(call);
        let per_group = self.rows_per_group(call);
        let params = (self.of.pack)(call.instance()?, x, per_group as u32);
        Ok(Dispatch { params, grid: fold(x.rows().div_ceil(per_group)) })
    }

    fn rounds(&self, _stage: usize, call: &Call<'_>) -> Result<u64> {
        Ok(rounds::of_loop(self.rows_per_group(call), self.rounds_per_row(call)))
    }
}

fn lanes(caps: &Caps) -> u32 {
    caps.subgroup.unwrap_or(1)
}

/// Invocations of a workgroup that shares a row: long rows keep more lanes busy; a software
/// driver only pays for more barriers.
pub(super) fn threads(cols: usize, caps: &Caps) -> u32 {
    if cols >= 2048 && !caps.software && caps.max_invocations >= 256 { 256 } else { 64 }
}

/// The fixed, positive innermost dimension of an f32 operand.
pub(super) fn columns(op: &'static str, name: &str, x: &SymMeta) -> Result<usize> {
    let cols = x.last().filter(|&c| c > 0 && x.dtype == DType::F32);
    cols.ok_or_else(|| {
        let message = format!("{name} {x} must be f32 with a fixed, positive innermost dimension");
        Error::op(op, message)
    })
}

/// Shapes that norms with results in f16 are tested with: of an odd number of halves, of whole
/// vectors, and of more of both than one lane holds.
pub(super) const NARROW_CASES: [(usize, usize); 6] =
    [(1, 1), (3, 65), (5, 28), (131, 96), (2, 1031), (2, 4100)];

/// Long rows: the largest vocabulary, and a length that is no whole number of vectors.
pub(super) const LONG: [(usize, usize); 2] = [(2, 262_144), (2, 100_003)];

/// Shapes every op over rows is tested with: one column, around a workgroup's 64 lanes, around
/// one vector per lane, a prime, more rows than one workgroup walks, and long rows.
pub(super) const CASES: [(usize, usize); 11] = [
    (1, 1),
    (1, 63),
    (3, 64),
    (2, 65),
    (5, 28),
    (5, 36),
    (5, 127),
    (131, 96),
    (4, 384),
    (2, 1031),
    (2, 4100),
];
