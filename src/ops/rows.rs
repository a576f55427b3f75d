//! How the kernels over rows (norms, softmax) are chosen, specialised and dispatched.
//!
//! Each such op has two shaders: `<op>_rows` holds a row in the registers of one subgroup,
//! `<op>` reads it again for every pass. All walk `rows_per_group` rows per workgroup.

use super::{Call, Kernel, Needs};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Field, ShaderSource, Spec, fold};
use crate::tensor::{DType, SymMeta};

/// Vectors of 4 per lane that still fit the registers of a GPU.
const GPU_VECS: usize = 16;
/// The same for a software driver, which unrolls loops of at most 32 rounds; beyond, lavapipe
/// compiles for seconds.
const SOFTWARE_VECS: usize = 32;
/// Rows per workgroup on a software driver, where columns' operands are kept for all of them.
const SOFTWARE_ROWS: usize = 32;

/// The variants of an op over rows, preferred first: rows in registers, one subgroup per row,
/// one workgroup per row.
pub(super) const fn kernels(
    names: [&'static str; 3],
    held: ShaderSource,
    source: ShaderSource,
    params: &'static [Field],
) -> [Kernel; 3] {
    let [rows, subgroup, workgroup] = names;
    let held = Kernel { name: rows, source: held, params, trusted: true, needs: SUBGROUP };
    let [subgroup, workgroup] = streamed([subgroup, workgroup], source, params);
    [held, subgroup, workgroup]
}

/// The variants of an op that only streams its rows.
pub(super) const fn streamed(
    names: [&'static str; 2],
    source: ShaderSource,
    params: &'static [Field],
) -> [Kernel; 2] {
    let [subgroup, workgroup] = names;
    [
        Kernel { name: subgroup, source, params, trusted: true, needs: SUBGROUP },
        Kernel { name: workgroup, source, params, trusted: true, needs: Needs::NOTHING },
    ]
}

const SUBGROUP: Needs = Needs { subgroup: Some((4, 64)), ..Needs::NOTHING };

/// The three ways to work on rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Registers,
    Subgroup,
    Workgroup,
}

fn way(kernel: &Kernel) -> Way {
    match (kernel.source.name.ends_with("_rows"), kernel.needs.subgroup) {
        (true, _) => Way::Registers,
        (false, Some(_)) => Way::Subgroup,
        (false, None) => Way::Workgroup,
    }
}

/// Whether a variant takes rows of this length and is a sensible choice.
pub(super) fn accepts(kernel: &Kernel, call: &Call<'_>) -> bool {
    let cols = call.input(0).shape.last();
    let limit = if call.caps.software { SOFTWARE_VECS } else { GPU_VECS };
    match way(kernel) {
        Way::Registers => cols.is_multiple_of(4) && cols <= 4 * limit * lanes(call.caps) as usize,
        // One subgroup that streams a long row leaves a GPU idle; on a software driver barriers
        // cost more than that.
        Way::Subgroup => call.caps.software || cols <= 16 * lanes(call.caps) as usize,
        Way::Workgroup => true,
    }
}

fn lanes(caps: &Caps) -> u32 {
    caps.subgroup.unwrap_or(1)
}

/// The part of a variant's spec that all ops over rows share.
pub(super) fn spec(kernel: &Kernel, call: &Call<'_>) -> Spec {
    let cols = call.input(0).shape.last();
    let spec = scalar_spec(kernel, call);
    match way(kernel) {
        Way::Registers => spec.set("COLS", cols as u32).set("KEEP_COLUMNS", call.caps.software),
        _ if cols.is_multiple_of(4) => spec.import("elem_f32", "elem_vec4"),
        _ => spec,
    }
}

/// The same for a kernel that reads its rows one value at a time.
pub(super) fn scalar_spec(kernel: &Kernel, call: &Call<'_>) -> Spec {
    match way(kernel) {
        Way::Registers => Spec::new().set("THREADS", lanes(call.caps)),
        Way::Subgroup => Spec::new()
            .import("reduce_workgroup", "reduce_subgroup")
            .set("THREADS", lanes(call.caps)),
        Way::Workgroup => Spec::new().set("THREADS", threads(call)),
    }
}

/// Invocations of a workgroup that shares a row: long rows keep more lanes busy; a software
/// driver only pays for more barriers.
pub(super) fn threads(call: &Call<'_>) -> u32 {
    let long = call.input(0).shape.last() >= 2048;
    if long && !call.caps.software && call.caps.max_invocations >= 256 { 256 } else { 64 }
}

/// Rows per workgroup, and the grid.
pub(super) fn grid(call: &Call<'_>) -> (u32, [u32; 3]) {
    let rows = call.input(0).shape.rows();
    // At least 64 workgroups where there are as many rows, so that all cores get a share.
    let per_group = if call.caps.software { (rows / 64).clamp(1, SOFTWARE_ROWS) } else { 1 };
    (per_group as u32, fold(rows.div_ceil(per_group)))
}

/// The fixed, positive innermost dimension of an f32 operand.
pub(super) fn columns(op: &'static str, name: &str, x: &SymMeta) -> Result<usize> {
    let cols = x.last().filter(|&c| c > 0 && x.dtype == DType::F32);
    cols.ok_or_else(|| {
        let message = format!("{name} {x} must be f32 with a fixed, positive innermost dimension");
        Error::op(op, message)
    })
}

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
