//! Ops: what a graph is made of, each defined once for every device.
//!
//! One file per op holds, in this order: formula and shapes, the f64-accumulating reference,
//! parameters, checks, the kernel table, and the cases it is tested with. The reference is
//! plain loops and shares no code with the kernels. [`registry`] lists the ops; tests,
//! `verify ops` and benches walk it, so a new op needs its file, its shader and one line here.

mod activation;
mod add;
mod argmax;
mod attention;
pub mod bench;
mod cache;
mod case;
mod certify;
mod column;
mod cross_entropy;
mod eager;
mod elementwise;
mod embedding;
mod gated;
mod gather;
mod layer_norm;
mod matmul;
mod padded_positions;
mod pool;
mod position;
mod positions;
mod request;
mod rms_norm;
mod rope;
mod rows;
mod sample;
mod scale;
mod select;
mod softmax;
mod verify;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

pub use activation::{Activate, Activation};
pub use add::Add;
pub use argmax::Argmax;
pub use attention::{Attention, HeadLayout, relative_bucket, relative_buckets};
pub use bench::extra_kernels;
pub use cache::CacheAppend;
pub use case::{Case, Comparison, Rng, Tolerance};
pub use certify::certify;
pub use column::Column;
pub use cross_entropy::CrossEntropy;
pub use eager::{Prepared, RunOptions, run, run_cpu};
pub use embedding::Embedding;
pub use gated::Gated;
pub use gather::Gather;
pub use layer_norm::LayerNorm;
pub use matmul::{Layout, Matmul};
pub use padded_positions::PaddedPositions;
pub use pool::{L2Normalize, Pool};
pub use position::{RopeScaling, Sinusoid, rope_frequencies, rope_tables, sinusoidal};
pub use positions::Positions;
pub use request::Request;
pub use rms_norm::RmsNorm;
pub use rope::{Pairing, Rope};
pub use sample::{Sample, Sampling};
pub use scale::Scale;
pub use select::{candidates, choose};
pub use softmax::Softmax;
pub use verify::{Outcome, Verdict, verify_case, verify_cpu, verify_entry, verify_ops};

use crate::error::{Error, Result};
use crate::gpu::{Caps, Field, ParamBytes, ShaderSource, Spec};
use crate::tensor::{Meta, Sizes, SymMeta, Tensor};

/// One op with its attributes, such as a layer norm with its eps.
///
/// Operands are positional, named by [`inputs`](Op::inputs) and [`outputs`](Op::outputs);
/// kernels bind them by those names. An input may be absent (`None`) where the op says so.
pub trait Op: fmt::Debug + Send + Sync + Any {
    /// The registry name, also of this instance's nodes.
    fn name(&self) -> &'static str;

    /// Operand names, in order; equal to the kernels' binding names.
    fn inputs(&self) -> &'static [&'static str];

    /// Names of the results this instance produces, in order.
    fn outputs(&self) -> &'static [&'static str];

    /// Checks operand shapes and dtypes and gives the results'. Errors quote the shapes.
    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>>;

    /// The formula in plain loops, accumulating in f64.
    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>>;

    /// What the CPU path runs: the reference unless a faster route is worth its code.
    fn run_cpu(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        self.reference(args)
    }

    /// Results that are written over operands, as (result, operand), such as a cache that new
    /// rows are appended to. Both are one buffer; kernels bind it by the result's name.
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }

    /// The CPU path of an op with [`in_place`](Op::in_place) results: `states` are those
    /// operands, in that list's order, to be changed; in `args` they are absent.
    fn update_cpu(&self, _args: &Args<'_>, _states: &mut [Tensor]) -> Result<()> {
        Err(Error::op(self.name(), "has no results in place"))
    }

    /// The same op reading operand `i` at a column of wider rows, for projections that are
    /// packed side by side; `None` where the operand must stand alone.
    fn at_column(&self, _i: usize, _column: usize) -> Option<Arc<dyn Op>> {
        None
    }

    /// Kernel variants, preferred first.
    fn kernels(&self) -> &'static [Kernel];

    /// Whether a kernel takes these shapes, and is a sensible choice for them.
    fn accepts(&self, _kernel: &Kernel, _call: &Call<'_>) -> bool {
        true
    }

    /// The kernel's variant for this instance. May depend on attributes, dtypes and fixed
    /// dimensions only: symbols change from step to step, and a step compiles nothing.
    fn spec(&self, kernel: &Kernel, call: &Call<'_>) -> Spec;

    /// Parameters and grid for one call.
    fn dispatch(&self, kernel: &Kernel, call: &Call<'_>) -> Dispatch;

    /// Arithmetic and memory traffic of one call, for benches and submission cutting.
    fn cost(&self, call: &Call<'_>) -> Cost;

    /// The input that may be stored in parts along its first dimension when it exceeds the
    /// device's largest binding; the op is then dispatched once per part.
    fn splittable(&self) -> Option<usize> {
        None
    }
}

impl dyn Op {
    /// The op as its own type, for rewrites.
    pub fn downcast<T: Op>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Operands of a CPU call.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    /// The op's name, for messages.
    pub op: &'static str,
    /// Operand tensors by position.
    pub tensors: &'a [Option<&'a Tensor>],
    /// Values of the symbols that attributes refer to.
    pub sizes: &'a Sizes,
}

impl<'a> Args<'a> {
    /// Operand `i`, if given.
    pub fn get(&self, i: usize) -> Option<&'a Tensor> {
        self.tensors.get(i).copied().flatten()
    }

    /// Operand `i`, which must be given.
    pub fn need(&self, i: usize) -> Result<&'a Tensor> {
        self.get(i).ok_or_else(|| Error::op(self.op, format!("operand {i} is missing")))
    }
}

/// What is known of one call when its kernel is chosen, specialised and dispatched.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Operand shapes by position.
    pub inputs: &'a [Option<Meta>],
    /// Result shapes by position.
    pub outputs: &'a [Meta],
    /// Values of the symbols that attributes refer to.
    pub sizes: &'a Sizes,
    /// The device.
    pub caps: &'a Caps,
    /// Set when a split operand's part is being dispatched.
    pub part: Option<Part>,
}

impl Call<'_> {
    /// Shape and dtype of operand `i`; an empty f32 tensor if absent (`infer` has checked).
    pub fn input(&self, i: usize) -> Meta {
        self.inputs.get(i).copied().flatten().unwrap_or(Meta::f32([0]))
    }

    /// Whether operand `i` is given.
    pub fn has(&self, i: usize) -> bool {
        self.inputs.get(i).copied().flatten().is_some()
    }

    /// Shape and dtype of result `i`.
    pub fn output(&self, i: usize) -> Meta {
        self.outputs.get(i).copied().unwrap_or(Meta::f32([0]))
    }
}

/// A range of rows (first dimension) of a split operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First row held by the part.
    pub first: usize,
    /// Number of rows.
    pub rows: usize,
}

/// Parameters and grid of one dispatch.
#[derive(Clone, Copy, Debug)]
pub struct Dispatch {
    /// The parameter block.
    pub params: ParamBytes,
    /// Workgroups in x, y, z, each at most 65,535.
    pub grid: [u32; 3],
}

/// Work of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations, a fused multiply-add counting two.
    pub flops: f64,
    /// Bytes that must be read and written at least once.
    pub bytes: f64,
}

impl Cost {
    /// This many operations, and every operand and result moved once.
    pub fn new(flops: f64, call: &Call<'_>) -> Self {
        let read: usize = call.inputs.iter().flatten().map(Meta::bytes).sum();
        let written: usize = call.outputs.iter().map(Meta::bytes).sum();
        Self { flops, bytes: (read + written) as f64 }
    }
}

/// One row of an op's kernel table.
#[derive(Debug)]
pub struct Kernel {
    /// Name of the variant: timing key, `--variants`, certification.
    pub name: &'static str,
    /// The shader.
    pub source: ShaderSource,
    /// The Rust twin of its `Params`.
    pub params: &'static [Field],
    /// Whether its file carries the `Safety:` note that lets it run without naga's checks.
    pub trusted: bool,
    /// What it needs of a device.
    pub needs: Needs,
}

/// What a kernel needs of a device beyond compute shaders and immediates.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Subgroup operations with a size that never changes, between these bounds.
    pub subgroup: Option<(u32, u32)>,
    /// f16 arithmetic.
    pub f16: bool,
    /// Invocations per workgroup.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
}

impl Needs {
    /// What every device has.
    pub const NOTHING: Self =
        Self { subgroup: None, f16: false, invocations: 64, workgroup_memory: 16 << 10 };

    /// What the device lacks, if anything.
    pub fn missing(&self, caps: &Caps) -> Option<String> {
        if let Some((low, high)) = self.subgroup {
            match caps.subgroup {
                None => return Some("subgroups of a fixed size".to_owned()),
                Some(size) if size < low || size > high => {
                    return Some(format!("a subgroup size of {low} to {high} (it has {size})"));
                }
                Some(_) => {}
            }
        }
        if self.f16 && !caps.f16 {
            return Some("f16 arithmetic".to_owned());
        }
        if self.invocations > caps.max_invocations {
            return Some(format!("{} invocations per workgroup", self.invocations));
        }
        (self.workgroup_memory > caps.workgroup_memory)
            .then(|| format!("{} bytes of workgroup memory", self.workgroup_memory))
    }
}

/// An instance and its operands, as built from a [`Request`].
pub type Built = (Arc<dyn Op>, Vec<Option<Tensor>>);

/// An op as the tools see it.
pub struct Entry {
    /// Registry name.
    pub name: &'static str,
    /// Other names `tilewright op` takes.
    pub aliases: &'static [&'static str],
    /// Formula in one line.
    pub summary: &'static str,
    /// Kernel variants.
    pub kernels: &'static [Kernel],
    /// The cases every variant is tested with.
    pub cases: fn() -> Vec<Case>,
    /// Builds an instance and its operands from named tensors and settings.
    pub build: fn(&mut Request) -> Result<Built>,
}

/// Every op.
pub fn registry() -> &'static [&'static Entry] {
    static REGISTRY: &[&Entry] = &[
        &activation::GELU_ERF,
        &activation::GELU_TANH,
        &activation::QUICK_GELU,
        &activation::RELU,
        &activation::SIGMOID,
        &activation::SILU,
        &activation::TANH,
        &add::ENTRY,
        &argmax::ENTRY,
        &column::ENTRY,
        &cross_entropy::ENTRY,
        &attention::ENTRY,
        &cache::ENTRY,
        &embedding::ENTRY,
        &gated::GEGLU,
        &gated::GEGLU_TANH,
        &gated::REGLU,
        &gated::SWIGLU,
        &gather::ENTRY,
        &layer_norm::ENTRY,
        &matmul::ENTRY,
        &padded_positions::ENTRY,
        &pool::L2_NORMALIZE,
        &pool::POOL,
        &positions::ENTRY,
        &rms_norm::ENTRY,
        &rope::ENTRY,
        &sample::ENTRY,
        &scale::ENTRY,
        &softmax::ENTRY,
        &softmax::LOG_ENTRY,
    ];
    REGISTRY
}

/// The registry entry of a name or alias; the error lists what exists.
pub fn find(name: &str) -> Result<&'static Entry> {
    let hit = |e: &&&Entry| e.name == name || e.aliases.contains(&name);
    registry().iter().find(hit).copied().ok_or_else(|| {
        let known: Vec<_> = registry().iter().map(|e| e.name).collect();
        Error::Argument(format!("no op is named `{name}`; there are {}", known.join(", ")))
    })
}

/// Rows of a split operand that fit one binding of `max_binding` bytes, rounded down so that
/// every part starts on a multiple of 16 bytes where possible; `None` when it fits whole.
pub fn rows_per_part(meta: Meta, max_binding: u64) -> Option<usize> {
    if meta.bytes() as u64 <= max_binding {
        return None;
    }
    let row = meta.shape.last() * meta.dtype.size();
    let rows = max_binding as usize / row.max(1);
    Some(if rows >= 16 { rows / 16 * 16 } else { rows.max(1) })
}

/// The parts of `total` rows, `rows` at a time.
pub fn parts(total: usize, rows: usize) -> impl Iterator<Item = Part> {
    let step = rows.max(1);
    (0..total).step_by(step).map(move |first| Part { first, rows: step.min(total - first) })
}
