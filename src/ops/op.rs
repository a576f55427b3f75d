//! The contract: an op says what is computed, a kernel says all of itself, an entry lists both
//! with the cases that hold them together.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::kernel::{Dispatch, Needs, Part, Precision, Stage};
use super::request::Request;
use super::rng::Rng;
use super::rounds::most_rounds;
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Spec};
use crate::tensor::{DType, Dim, Meta, Sizes, SymMeta, Tensor};

/// One op with its attributes, such as a layer norm with its eps.
///
/// Operands are positional, named by [`inputs`](Op::inputs) and [`outputs`](Op::outputs);
/// kernels bind them by those names. An input may be absent (`None`) where the op says so.
pub trait Op: fmt::Debug + Send + Sync + Any {
    /// The registry entry: name, kernels and cases. An op of an embedder's own has one too; it
    /// need not be in the registry.
    fn entry(&self) -> &'static Entry;

    /// The name of this instance's nodes: its entry's.
    fn name(&self) -> &'static str {
        self.entry().name
    }

    /// Operand names, in order; equal to the kernels' binding names.
    fn inputs(&self) -> &'static [&'static str];

    /// Names of the results this instance produces, in order.
    fn outputs(&self) -> &'static [&'static str];

    /// Checks operand shapes and dtypes and gives the results'. Errors quote the shapes.
    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>>;

    /// Whether a kernel reads operand `i` in blocks that share a scale. A weight of such a format
    /// is stored as f32 for an op that does not take it.
    fn takes_blocks(&self, _i: usize) -> bool {
        false
    }

    /// Whether every kernel reads operand `i` in f16 as it does in f32. A value that only such
    /// operands read may be stored so: see [`stores_f16`](Op::stores_f16).
    fn reads_f16(&self, _i: usize) -> bool {
        false
    }

    /// Whether kernels can store result `i`, an f32 by [`infer`](Op::infer), in f16, saturating at
    /// ±65504: where [`Call::outputs`] says so, which is the graph's decision. A kernel that cannot
    /// does not [fit](Kernel::fits) such a call.
    fn stores_f16(&self, _i: usize) -> bool {
        false
    }

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
    /// operands, in that list's order, to be changed; in `args` they are absent. Gives the other
    /// results, in order.
    fn update_cpu(&self, _args: &Args<'_>, _states: &mut [Tensor]) -> Result<Vec<Tensor>> {
        Err(Error::op(self.name(), "has no results in place"))
    }

    /// The same op reading operand `i` at a column of wider rows, for projections that are
    /// packed side by side; `None` where the operand must stand alone.
    fn at_column(&self, _i: usize, _column: usize) -> Option<Arc<dyn Op>> {
        None
    }

    /// The same op with other attributes, for the same operands: what random cases try besides
    /// shapes. `None` where there is nothing to draw.
    fn drawn(&self, _rng: &mut Rng) -> Option<Arc<dyn Op>> {
        None
    }

    /// Attributes that may be symbols, such as a position. A step whose symbols did not change
    /// reuses the node's parameters, so one left out here would go stale.
    fn dims(&self) -> Vec<Dim> {
        Vec::new()
    }

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

/// One way to compute an op on a device: one object that says all of itself.
///
/// Adding one is its shader and its file, listed in the op's entry. What a device lacks
/// ([`needs`](Kernel::needs)), what the kernel cannot do ([`fits`](Kernel::fits)) and what it
/// should not do ([`rank`](Kernel::rank)) are three different questions.
pub trait Kernel: Send + Sync {
    /// Unique name: timing key, `--variants`, `--kernel`, certification.
    fn name(&self) -> &'static str;

    /// What it needs of a device.
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    /// Arithmetic of its products. Scales the error its cases may have.
    fn precision(&self) -> Precision {
        Precision::Exact
    }

    /// Its dispatches, in order.
    fn stages(&self) -> &[Stage];

    /// Bytes of memory alive for this call only, bound as `scratch` in every stage that declares
    /// it.
    fn scratch(&self, _call: &Call<'_>) -> Result<usize> {
        Ok(0)
    }

    /// Whether the kernel can compute this call, however long its loops run: see
    /// [`takes`](#method.takes).
    fn fits(&self, _call: &Call<'_>) -> bool {
        true
    }

    /// The most rounds of loops that one invocation of a stage runs in this call, all its loops
    /// together: a function of the sizes and of how [`dispatch`](Kernel::dispatch) splits the work.
    ///
    /// A round is one evaluation of a loop's condition, the failing one included; loops marked
    /// `// unroll` have none. Software drivers leave loops after [`MAX_ROUNDS`](super::MAX_ROUNDS),
    /// so a kernel that states more is not run there.
    fn rounds(&self, stage: usize, call: &Call<'_>) -> Result<u64>;

    /// A guess of its time among the op's kernels, in any unit: the least is preferred until
    /// tuning has measured. Asked only where [`fits`](Kernel::fits) holds.
    fn rank(&self, _call: &Call<'_>) -> f32 {
        0.0
    }

    /// A stage's variant. May depend on attributes, dtypes and fixed dimensions only: symbols
    /// change from step to step, and a step compiles nothing.
    fn spec(&self, stage: usize, call: &Call<'_>) -> Result<Spec>;

    /// A stage's parameters and grid.
    fn dispatch(&self, stage: usize, call: &Call<'_>) -> Result<Dispatch>;
}

impl fmt::Debug for dyn Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl dyn Kernel + '_ {
    /// Whether the kernel gives right answers to this call on the call's device: it
    /// [`fits`](Kernel::fits), none of its invocations runs for more rounds than the device allows,
    /// and the device has f16 where results are narrowed to it.
    pub fn takes(&self, call: &Call<'_>) -> bool {
        let most = most_rounds(call.caps);
        let bounded = |stage| self.rounds(stage, call).is_ok_and(|rounds| rounds <= most);
        (call.caps.f16 || !call.narrows())
            && self.fits(call)
            && (0..self.stages().len()).all(bounded)
    }
}

impl PartialEq for dyn Kernel {
    /// Names are unique.
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// An op as the tools see it: its kernels, and the cases that every one of them must pass.
pub struct Entry {
    /// Registry name.
    pub name: &'static str,
    /// Other names `tilewright op` takes.
    pub aliases: &'static [&'static str],
    /// Formula in one line.
    pub summary: &'static str,
    /// Kernels, in the order in which reports list them.
    pub kernels: &'static [&'static dyn Kernel],
    /// The cases every kernel is tested and certified with.
    pub cases: fn() -> Vec<Case>,
    /// Cases whose loops run longest, which tests and `verify ops` add: 262,144 columns, sums of
    /// 100,003 products. Too slow for a first start.
    pub long_cases: fn() -> Vec<Case>,
    /// Builds an instance and its operands from named tensors and settings.
    pub build: fn(&mut Request) -> Result<Built>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// An instance and its operands, as built from a [`Request`].
pub type Built = (Arc<dyn Op>, Vec<Option<Tensor>>);

/// One op instance with operands and the error it may have.
#[derive(Clone)]
pub struct Case {
    /// What the case is about, shapes included.
    pub label: String,
    /// The instance.
    pub op: Arc<dyn Op>,
    /// Operands by position.
    pub inputs: Vec<Option<Tensor>>,
    /// Values of the symbols that attributes refer to.
    pub sizes: Sizes,
    /// Allowed error.
    pub tolerance: Tolerance,
    /// Whether results that can be [stored in f16](Op::stores_f16) are.
    pub narrow: bool,
}

impl Case {
    /// A case without symbols.
    pub fn new(
        label: impl Into<String>,
        op: impl Op,
        inputs: Vec<Option<Tensor>>,
        tolerance: Tolerance,
    ) -> Self {
        let sizes = Sizes::default();
        Self { label: label.into(), op: Arc::new(op), inputs, sizes, tolerance, narrow: false }
    }

    /// The same with results stored in f16 where they can be.
    #[must_use]
    pub fn narrowed(self) -> Self {
        Self { label: format!("{}, to f16", self.label), narrow: true, ..self }
    }

    /// The reference's results.
    pub fn reference(&self) -> Result<Vec<Tensor>> {
        let tensors: Vec<_> = self.inputs.iter().map(Option::as_ref).collect();
        let args = Args { op: self.op.name(), tensors: &tensors, sizes: &self.sizes };
        self.op.reference(&args)
    }

    /// Whether every finite operand value is one that f16 can hold, rounded: what a kernel that
    /// multiplies in f16 can be asked.
    pub fn fits_f16(&self) -> bool {
        let held = |v: &f32| !v.is_finite() || v.abs() <= 65504.0;
        let floats = self.inputs.iter().flatten().filter_map(|t| t.as_f32().ok());
        floats.flatten().all(held)
    }

    /// The case as a call on such a device. Errors when the op's own checks fail.
    pub fn with_call<T>(&self, caps: &Caps, use_it: impl FnOnce(&Call<'_>) -> T) -> Result<T> {
        let inputs: Vec<_> = self.inputs.iter().map(|t| t.as_ref().map(Tensor::meta)).collect();
        let outputs = results(&*self.op, &inputs, &self.sizes, self.narrow)?;
        let (op, sizes) = (&*self.op, &self.sizes);
        Ok(use_it(&Call { op, inputs: &inputs, outputs: &outputs, sizes, caps, part: None }))
    }
}

/// Result shapes of a call with operands of these, after the op's checks.
pub fn infer(op: &dyn Op, inputs: &[Option<Meta>], sizes: &Sizes) -> Result<Vec<Meta>> {
    let symbolic: Vec<_> = inputs.iter().map(|meta| meta.map(Into::into)).collect();
    op.infer(&symbolic)?.iter().map(|meta: &SymMeta| meta.eval(sizes)).collect()
}

/// The same with those that can be [stored in f16](Op::stores_f16) in f16, if `narrow`.
pub(super) fn results(
    op: &dyn Op,
    inputs: &[Option<Meta>],
    sizes: &Sizes,
    narrow: bool,
) -> Result<Vec<Meta>> {
    let mut outputs = infer(op, inputs, sizes)?;
    for (i, meta) in outputs.iter_mut().enumerate().filter(|(i, _)| narrow && op.stores_f16(*i)) {
        debug_assert_eq!(meta.dtype, DType::F32, "result {i} of {}", op.name());
        meta.dtype = DType::F16;
    }
    Ok(outputs)
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
    /// The op with its attributes.
    pub op: &'a dyn Op,
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

impl<'a> Call<'a> {
    /// The op as its own type. Errors when a kernel is listed by an op of another type.
    pub fn instance<T: Op>(&self) -> Result<&'a T> {
        let wrong = || Error::op(self.op.name(), "lists a kernel of another op");
        self.op.downcast().ok_or_else(wrong)
    }

    /// Shape and dtype of operand `i`; an empty f32 tensor if absent (`infer` has checked).
    pub fn input(&self, i: usize) -> Meta {
        self.inputs.get(i).copied().flatten().unwrap_or(Meta::f32([0]))
    }

    /// Whether operand `i` is given.
    pub fn has(&self, i: usize) -> bool {
        self.inputs.get(i).copied().flatten().is_some()
    }

    /// Whether a result that is f32 by the op's own rule is to be stored in f16.
    pub fn narrows(&self) -> bool {
        let narrowed =
            |(i, meta): (usize, &Meta)| meta.dtype == DType::F16 && self.op.stores_f16(i);
        self.outputs.iter().enumerate().any(narrowed)
    }

    /// Shape and dtype of result `i`.
    pub fn output(&self, i: usize) -> Meta {
        self.outputs.get(i).copied().unwrap_or(Meta::f32([0]))
    }
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
