//! The contract of a kernel, held by ops that are not ours: several stages with scratch, verdicts
//! per form, precision that must be asked for, and time that decides.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use tilewright::Error;
use tilewright::gpu::{Gpu, GpuOptions, ShaderSource, Spec, fold};
use tilewright::graph::{
    DeviceWeights, Executor, Graph, Plan, Policy, PrecisionMode, Session, SessionOptions, Tune,
};
use tilewright::ops::{
    Args, Call, Case, Cost, Dispatch, Entry, Kernel, Op, Outcome, Precision, Rng, Stage, Tolerance,
    certify, certify_all, rounds, verify_entry,
};
use tilewright::tensor::{Sizes, Sym, SymMeta, Tensor};

use crate::common;

/// `y = x` times 2, or times 3 with `thrice`, element by element.
#[derive(Debug)]
struct Multiple {
    thrice: bool,
    entry: &'static Entry,
}

tilewright::params! {
    struct Params { count: u32 }
}

const ONE_STAGE: ShaderSource = ShaderSource {
    name: "multiple",
    text: "#import fold
const THRICE: bool = false;
const LIES_THRICE: bool = false;
const ROUNDS: u32 = 1u;
struct Params { count: u32 }
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i >= params.count) { return; }
    var factor = select(2.0, 3.0, THRICE);
    if (THRICE && LIES_THRICE) { factor = 4.0; }
    var sum = 0.0;
    // Only the last round counts: the others are there to take time.
    for (var r = 0u; r < ROUNDS; r++) { sum = select(sum * 0.5, factor * x[i], r + 1u == ROUNDS); }
    y[i] = sum;
}
",
};

/// Leaves x in scratch.
const FIRST: ShaderSource = ShaderSource {
    name: "multiple_first",
    text: "#import fold
struct Params { count: u32 }
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> scratch: array<f32>;
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i < params.count) { scratch[i] = x[i]; }
}
",
};

/// Multiplies what the first stage left, read backwards so that order matters.
const SECOND: ShaderSource = ShaderSource {
    name: "multiple_second",
    text: "#import fold
const THRICE: bool = false;
struct Params { count: u32 }
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read_write> scratch: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i < params.count) { y[i] = select(2.0, 3.0, THRICE) * scratch[i]; }
}
",
};

struct OneStage {
    name: &'static str,
    rank: f32,
    lies: bool,
    rounds: u32,
    precision: Precision,
    stages: [Stage; 1],
}

impl OneStage {
    const fn new(name: &'static str, rank: f32) -> Self {
        let stages = [Stage::checked(ONE_STAGE, Params::FIELDS)];
        Self { name, rank, lies: false, rounds: 1, precision: Precision::Exact, stages }
    }
}

impl Kernel for OneStage {
    fn name(&self) -> &'static str {
        self.name
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn rank(&self, _call: &Call<'_>) -> f32 {
        self.rank
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> tilewright::Result<Spec> {
        let op: &Multiple = call.instance()?;
        Ok(Spec::new()
            .set("THRICE", op.thrice)
            .set("LIES_THRICE", self.lies)
            .set("ROUNDS", self.rounds))
    }

    fn rounds(&self, _stage: usize, _call: &Call<'_>) -> tilewright::Result<u64> {
        Ok(rounds::of_loop(self.rounds as usize, 0))
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> tilewright::Result<Dispatch> {
        Ok(over_elements(call))
    }
}

fn over_elements(call: &Call<'_>) -> Dispatch {
    let count = call.output(0).shape.numel();
    Dispatch::new(&Params { count: count as u32 }, fold(count.div_ceil(64)))
}

struct TwoStages([Stage; 2]);

impl Kernel for TwoStages {
    fn name(&self) -> &'static str {
        "multiple_in_two"
    }

    fn stages(&self) -> &[Stage] {
        &self.0
    }

    fn scratch(&self, call: &Call<'_>) -> tilewright::Result<usize> {
        Ok(call.output(0).bytes())
    }

    fn spec(&self, stage: usize, call: &Call<'_>) -> tilewright::Result<Spec> {
        let op: &Multiple = call.instance()?;
        Ok(if stage == 0 { Spec::new() } else { Spec::new().set("THRICE", op.thrice) })
    }

    fn rounds(&self, _stage: usize, _call: &Call<'_>) -> tilewright::Result<u64> {
        Ok(0)
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> tilewright::Result<Dispatch> {
        Ok(over_elements(call))
    }
}

impl Op for Multiple {
    fn entry(&self) -> &'static Entry {
        self.entry
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> tilewright::Result<Vec<SymMeta>> {
        match inputs {
            [Some(x)] => Ok(vec![x.clone()]),
            _ => Err(Error::op("multiple", "expected one operand, x")),
        }
    }

    fn reference(&self, args: &Args<'_>) -> tilewright::Result<Vec<Tensor>> {
        let x = args.need(0)?;
        let factor = if self.thrice { 3.0 } else { 2.0 };
        let y = x.as_f32()?.iter().map(|v| (f64::from(*v) * factor) as f32).collect();
        Ok(vec![Tensor::f32(x.shape(), y)?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(call.output(0).shape.numel() as f64, call)
    }
}

fn cases(entry: &'static Entry) -> Vec<Case> {
    let mut rng = Rng::new(1);
    let case = |(count, thrice): (usize, bool)| {
        let op = Multiple { thrice, entry };
        let x = Some(rng.tensor([count]));
        Case::new(format!("{count} thrice {thrice}"), op, vec![x], Tolerance::exact())
    };
    [(1, false), (65, true), (200, false), (77, true)].map(case).into()
}

/// An entry with these kernels.
macro_rules! entry {
    ($name:ident: $($kernel:expr),+) => {
        static $name: Entry = Entry {
            name: "multiple",
            aliases: &[],
            summary: "y = 2 x or 3 x",
            kernels: &[$(&$kernel),+],
            cases: || cases(&$name),
            long_cases: Vec::new,
            build: |_| Err(Error::op("multiple", "is built by tests only")),
        };
    };
}

fn model(entry: &'static Entry, thrice: bool) -> Graph {
    let mut graph = Graph::new();
    let batch = graph.symbol("batch").unwrap();
    let x = graph.input("x", SymMeta { dims: vec![batch.into(), 5.into()], ..SymMeta::f32([1]) });
    let y = graph.apply(Multiple { thrice, entry }, [Some(x)]).unwrap();
    graph.output("y", y);
    graph
}

fn session(gpu: &Gpu, graph: Graph, policy: Policy) -> tilewright::Result<Session> {
    let weights = DeviceWeights::with_policy(gpu, policy);
    let capacity = Sizes::default().with(Sym(0), 40);
    let options = SessionOptions::default();
    let go_on = &mut |_: tilewright::graph::Progress<'_>| ControlFlow::Continue(());
    Session::new(Arc::new(graph), &weights, capacity, &options, go_on)
}

/// The kernel that ran, after its results were found right.
fn runs(session: &Session, thrice: bool) -> &'static str {
    let mut name = "";
    for rows in [1, 40, 7] {
        let x = Rng::new(rows as u64).tensor([rows, 5]);
        let factor = if thrice { 3.0 } else { 2.0 };
        let want: Vec<f32> = x.as_f32().unwrap().iter().map(|v| v * factor).collect();
        let got = session.run(&[("x", &x)]).unwrap();
        assert_eq!(got["y"].as_f32().unwrap(), want, "{rows} rows");
        let sizes = Sizes::default().with(Sym(0), rows);
        name = session.kernel(0, &sizes).unwrap().unwrap().name();
    }
    name
}

fn untuned() -> Policy {
    Policy { tune: Tune::Off, ..Policy::default() }
}

/// A folder of its own that is gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tilewright-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn open(&self) -> Gpu {
        common::open(GpuOptions { cache_dir: Some(self.0.clone()), ..GpuOptions::default() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_embedders_own_op_runs_in_a_session_and_is_verified_as_ours() {
    entry!(ENTRY: OneStage::new("multiple_one", 0.0));
    let gpu = common::open(GpuOptions::default());
    for thrice in [false, true] {
        let session = session(&gpu, model(&ENTRY, thrice), untuned()).unwrap();
        assert_eq!(runs(&session, thrice), "multiple_one");
    }
    let verdicts = verify_entry(Some(&gpu), &ENTRY);
    assert_eq!(verdicts.len(), 4);
    assert!(verdicts.iter().all(|v| matches!(v.outcome, Outcome::Passed { .. })), "{verdicts:?}");
}

#[test]
fn a_kernel_wrong_in_one_form_is_off_in_that_form_alone() {
    entry!(ENTRY: OneStage { lies: true, ..OneStage::new("multiple_lies", 0.0) },
        OneStage::new("multiple_honest", 1.0));
    let gpu = common::open(GpuOptions::default());
    let plain = session(&gpu, model(&ENTRY, false), untuned()).unwrap();
    assert_eq!(runs(&plain, false), "multiple_lies");
    let thrice = session(&gpu, model(&ENTRY, true), untuned()).unwrap();
    assert_eq!(runs(&thrice, true), "multiple_honest");
    let forms = certify_all(&gpu, ENTRY.kernels[0], &ENTRY).unwrap();
    let off = forms.iter().filter(|(_, why)| why.is_some()).count();
    assert_eq!((forms.len(), off), (2, 1), "{forms:?}");
    // Forced, the wrong kernel is refused too where nothing else is left.
    entry!(ALONE: OneStage { lies: true, ..OneStage::new("multiple_liar", 0.0) });
    let error = session(&gpu, model(&ALONE, true), untuned()).map(drop).unwrap_err().to_string();
    assert!(error.contains("multiple_liar"), "{error}");
}

#[test]
fn a_device_lost_while_certifying_leaves_no_verdict() {
    entry!(ENTRY: OneStage::new("multiple_lost", 0.0));
    let folder = Folder::new("lost");
    let gpu = folder.open();
    let case = cases(&ENTRY).remove(0);
    gpu.device().destroy();
    let judged = case.with_call(gpu.caps(), |call| certify(&gpu, ENTRY.kernels[0], call));
    assert!(judged.unwrap().is_err(), "a verdict of a device that is gone");
    let gpu = folder.open();
    let judged = case.with_call(gpu.caps(), |call| certify(&gpu, ENTRY.kernels[0], call));
    assert_eq!(judged.unwrap().unwrap(), None);
}

#[test]
fn stages_share_scratch_that_the_plan_counts() {
    entry!(ENTRY: TwoStages([Stage::checked(FIRST, Params::FIELDS),
        Stage::checked(SECOND, Params::FIELDS)]));
    let gpu = common::open(GpuOptions::default());
    let session = session(&gpu, model(&ENTRY, true), untuned()).unwrap();
    assert_eq!(runs(&session, true), "multiple_in_two");
    let sizes = Sizes::default().with(Sym(0), 40);
    assert_eq!(session.dispatches(&sizes).unwrap(), 2);
    let plan = Plan::of_device(&model(&ENTRY, true), sizes, gpu.caps(), &untuned()).unwrap();
    let bare = Plan::new(&model(&ENTRY, true), sizes, gpu.caps().max_binding, false).unwrap();
    assert_eq!(plan.total() - bare.total(), 40 * 5 * 4);
    assert_eq!(session.plan().total(), plan.total());
}

#[test]
fn digits_are_lost_only_where_that_was_asked_for() {
    entry!(ENTRY: OneStage { precision: Precision::Fast, ..OneStage::new("multiple_fast", 0.0) },
        OneStage::new("multiple_exact", 1.0));
    let gpu = common::open(GpuOptions::default());
    let kernel = |precision| {
        let session = session(&gpu, model(&ENTRY, false), Policy { precision, ..untuned() });
        runs(&session.unwrap(), false)
    };
    assert_eq!(kernel(PrecisionMode::Fast), "multiple_fast");
    assert_eq!(kernel(PrecisionMode::Exact), "multiple_exact");
    assert_eq!(kernel(PrecisionMode::Auto), "multiple_exact");
}

#[test]
fn a_kernel_can_be_forced_and_a_typo_is_told() {
    entry!(ENTRY: OneStage::new("multiple_first_choice", 0.0),
        OneStage::new("multiple_second_choice", 1.0));
    let gpu = common::open(GpuOptions::default());
    let forced = |op: &str, kernel: &str| {
        let force = vec![(op.to_owned(), kernel.to_owned())];
        session(&gpu, model(&ENTRY, false), Policy { force, ..untuned() })
    };
    let session = forced("multiple", "multiple_second_choice").unwrap();
    assert_eq!(runs(&session, false), "multiple_second_choice");
    let error = forced("multiple", "multple").map(drop).unwrap_err().to_string();
    assert!(error.contains("multiple_first_choice"), "{error}");
    let error = forced("matmull", "x").map(drop).unwrap_err().to_string();
    assert!(error.contains("`matmull`"), "{error}");
}

#[test]
fn time_decides_once_and_damaged_findings_cost_time_only() {
    entry!(ENTRY: OneStage { rounds: 20_000, ..OneStage::new("multiple_slow", 0.0) },
        OneStage::new("multiple_quick", 1.0));
    let gpu = common::open(GpuOptions::default());
    let by_rank = session(&gpu, model(&ENTRY, false), untuned()).unwrap();
    assert_eq!(runs(&by_rank, false), "multiple_slow");
    let folder = Folder::new("tune");
    // What was timed for these sizes, and whether the quick kernel is what runs.
    let tuned = || {
        let policy = Policy { tune: Tune::Full, ..Policy::default() };
        let gpu = folder.open();
        let weights = DeviceWeights::with_policy(&gpu, policy);
        let capacity = Sizes::default().with(Sym(0), 40);
        let graph = Arc::new(model(&ENTRY, false));
        let options = SessionOptions::default();
        let go_on = &mut |_: tilewright::graph::Progress<'_>| ControlFlow::Continue(());
        let session = Session::new(graph, &weights, capacity, &options, go_on).unwrap();
        assert_eq!(runs(&session, false), "multiple_quick");
        weights.picks().iter().filter(|pick| !pick.timings.is_empty()).count()
    };
    assert!(tuned() > 0, "nothing was timed at first");
    assert_eq!(tuned(), 0, "timed again although nothing changed");
    for entry in std::fs::read_dir(&folder.0).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("tuned multiple"), "{text}");
            std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        }
    }
    assert!(tuned() > 0, "half a file was believed");
    assert_eq!(tuned(), 0);
}
