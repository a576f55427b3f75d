//! An op of your own, with your own WGSL, in a graph: certified on the adapter before its first
//! use, compared with its reference, and planned and replayed like the ops that ship.
//!
//! ```text
//! cargo run --release --example custom_op
//! ```

use std::error::Error as StdError;
use std::ops::ControlFlow;
use std::sync::Arc;

use tilewright::gpu::{GpuOptions, NO_ADAPTER_HELP, ShaderSource, Spec, adapters, fold};
use tilewright::graph::{DeviceWeights, Graph, Session, SessionOptions, Size};
use tilewright::ops::{
    Args, Call, Case, CheckOptions, Cost, Dispatch, Entry, Op, Outcome, Rng, Single, Tolerance,
    check_entry, no_loops, verify_entry,
};
use tilewright::tensor::{DType, SymMeta, Tensor};
use tilewright::{Error, Result};

/// `y = x min(max(x + 3, 0), 6) / 6` (Howard et al. 2019, "Searching for MobileNetV3").
#[derive(Debug)]
struct HardSwish;

tilewright::params! {
    /// Twin of the shader's `Params`.
    struct Params { count: u32 }
}

const SOURCE: ShaderSource = ShaderSource {
    name: "hard_swish",
    text: "// y = x clamp(x + 3, 0, 6) / 6, one invocation per element.
#import fold
struct Params { count: u32 }
var<immediate> params: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // [count]
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [count]
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i < params.count) { y[i] = x[i] * clamp(x[i] + 3.0, 0.0, 6.0) / 6.0; }
}
",
};

/// Bindings carry the operands' names; the parameter block is checked field by field.
static KERNEL: Single<HardSwish> = Single::checked(
    SOURCE,
    Params::FIELDS,
    |_op, _call| Spec::new(),
    |_op, call| {
        let count = call.output(0).shape.numel();
        Dispatch::new(&Params { count: count as u32 }, fold(count.div_ceil(64)))
    },
    no_loops,
);

static ENTRY: Entry = Entry {
    name: "hard_swish",
    aliases: &[],
    summary: "y = x min(max(x + 3, 0), 6) / 6",
    kernels: &[&KERNEL],
    cases,
    // Nothing in the kernel grows with the sizes.
    long_cases: Vec::new,
    build: |request| Ok((Arc::new(HardSwish), vec![Some(request.need(&["x"])?)])),
};

/// What every kernel of the op is held to, here and on each adapter before its first use.
fn cases() -> Vec<Case> {
    let mut rng = Rng::new(1);
    let case = |n: usize| {
        let x = Some(rng.tensor_with([n], |r| r.normal() * 4.0));
        Case::new(format!("{n} elements"), HardSwish, vec![x], Tolerance::f32(1e-6, 1e-6))
    };
    [1, 63, 64, 65, 4099].map(case).into()
}

impl Op for HardSwish {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["y"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        match inputs {
            [Some(x)] if x.dtype == DType::F32 => Ok(vec![x.clone()]),
            _ => Err(Error::op("hard_swish", "expected one f32 operand, x")),
        }
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(0)?;
        let f = |v: &f32| {
            let v = f64::from(*v);
            (v * (v + 3.0).clamp(0.0, 6.0) / 6.0) as f32
        };
        Ok(vec![Tensor::f32(x.shape(), x.as_f32()?.iter().map(f).collect())?])
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(5.0 * call.output(0).shape.numel() as f64, call)
    }
}

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    // On machines that are not here, as a test of the op would: results, races, indices.
    let checked = check_entry(&ENTRY, &CheckOptions::default());
    let wrong: Vec<_> = checked.iter().filter(|c| !c.is_clean()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");

    let adapter = adapters().into_iter().next().ok_or(NO_ADAPTER_HELP)?;
    let gpu = adapter.open(GpuOptions::default())?;
    let verdicts = verify_entry(Some(&gpu), &ENTRY);
    let passed = verdicts.iter().filter(|v| matches!(v.outcome, Outcome::Passed { .. })).count();
    println!("{}: {passed} of {} cases pass", gpu.caps().name, verdicts.len());

    let mut graph = Graph::new();
    let batch = graph.symbol(Size::Batch)?;
    let x = graph.input("x", SymMeta { dims: vec![batch.into(), 8.into()], dtype: DType::F32 });
    let y = graph.apply(HardSwish, [Some(x)])?;
    graph.output("y", y);
    let capacity = graph.sizes(&[(Size::Batch, 4)])?;
    let weights = DeviceWeights::new(&gpu);
    let go_on = &mut |_: tilewright::graph::Progress<'_>| ControlFlow::Continue(());
    let session =
        Session::new(Arc::new(graph), &weights, capacity, &SessionOptions::default(), go_on)?;
    let input = Tensor::f32([2, 8], (0..16).map(|i| i as f32 - 8.0).collect())?;
    println!("{:?}", session.run(&[("x", &input)])?["y"].as_f32()?);
    Ok(())
}
