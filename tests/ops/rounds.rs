//! Loops are bounded by construction: software drivers leave them after so many rounds, silently.

use tilewright::gpu::Caps;
use tilewright::ops::rounds::{MAX_ROUNDS, most_rounds};
use tilewright::ops::{Attention, Call, Kernel, registry};
use tilewright::ops::{Case, Precision, Sample, Sampling, Softmax, Tolerance, candidates, choose};
use tilewright::tensor::{Dim, Tensor};

/// A driver that computes on the CPU, with vector units of so many lanes.
fn software(subgroup: Option<u32>) -> Caps {
    let subgroup_range = subgroup.map(|lanes| (lanes, lanes));
    Caps { software: true, subgroup, subgroup_range, f16: true, ..Caps::baseline() }
}

fn stated(kernel: &dyn Kernel, call: &Call<'_>) -> u64 {
    let stages = 0..kernel.stages().len();
    stages.map(|s| kernel.rounds(s, call).expect("states its rounds")).max().unwrap_or(0)
}

fn zeros(dims: [usize; 2]) -> Option<Tensor> {
    Tensor::f32(dims, vec![0.0; dims[0] * dims[1]]).ok()
}

fn names(case: &Case, caps: &Caps) -> Vec<&'static str> {
    let names = |call: &Call<'_>| {
        candidates(call, Precision::Exact).iter().map(|k| k.name()).collect::<Vec<_>>()
    };
    case.with_call(caps, names).expect("a case passes its op's checks")
}

#[test]
fn every_op_has_a_kernel_whose_loops_are_short_enough_for_every_case() {
    let devices = [Some(4), Some(8), None].map(software);
    for entry in registry() {
        assert!(!(entry.long_cases)().is_empty(), "{} has no long case", entry.name);
        for case in [(entry.cases)(), (entry.long_cases)()].concat() {
            let short = |call: &Call<'_>| {
                let found = candidates(call, Precision::Exact);
                !found.is_empty() && found.iter().all(|k| stated(*k, call) <= MAX_ROUNDS)
            };
            for caps in &devices {
                let good = case.with_call(caps, short).expect("a case passes its op's checks");
                assert!(good, "{} {} with lanes {:?}", entry.name, case.label, caps.subgroup);
            }
        }
    }
}

#[test]
fn a_kernel_that_states_more_rounds_is_not_chosen_on_software_drivers() {
    let caps = software(Some(8));
    let (op, tolerance) = (Softmax { log: false }, Tolerance::exact());
    let case = Case::new("three walks of 8 lanes", op, vec![zeros([1, 262_143])], tolerance);
    assert_eq!(names(&case, &caps), ["softmax"]);
    let forced = |call: &Call<'_>| {
        choose(call, Precision::Exact, Some("softmax_subgroup"), |_| Ok(true)).map(|k| k.name())
    };
    let error = case.with_call(&caps, forced).expect("a call").expect_err("three are too many");
    assert!(error.to_string().contains("does not take these shapes"), "{error}");
    // A GPU has no such limit.
    let gpu = Caps { software: false, ..caps };
    assert_eq!(most_rounds(&gpu), u64::MAX);
    assert_eq!(names(&case, &gpu), ["softmax", "softmax_subgroup"]);
    let forced = case.with_call(&gpu, forced).expect("a call").expect("is not too many there");
    assert_eq!(forced, "softmax_subgroup");
}

#[test]
fn more_columns_than_any_kernel_has_rounds_for_are_an_error() {
    let settings = Sampling { temperature: 1.0, top_k: 5, top_p: 0.9, ..Sampling::GREEDY };
    let inputs = vec![zeros([1, 1 << 20]), settings.settings().ok()];
    let case =
        Case::new("2^20 columns", Sample { step: Dim::Const(0) }, inputs, Tolerance::exact());
    let chosen =
        |call: &Call<'_>| choose(call, Precision::Exact, None, |_| Ok(true)).map(|k| k.name());
    let error = case.with_call(&software(Some(8)), chosen).expect("a call").expect_err("too long");
    assert!(error.to_string().contains("no kernel for"), "{error}");
}

/// Rows that share a workgroup share its rounds, and keys are split where one workgroup would take
/// too many.
#[test]
fn work_is_split_so_that_loops_stay_short() {
    let caps = software(Some(8));
    let groups = |case: &Case, name: &str| {
        let grid = |call: &Call<'_>| {
            let kernel = call.op.entry().kernels.iter().find(|k| k.name() == name).expect("listed");
            assert!(kernel.takes(call), "{name} takes {}", case.label);
            assert!(stated(*kernel, call) <= MAX_ROUNDS, "{name} {}", case.label);
            kernel
                .dispatch(0, call)
                .expect("a dispatch")
                .grid
                .map(u64::from)
                .iter()
                .product::<u64>()
        };
        case.with_call(&caps, grid).expect("a call")
    };
    let rows = |cols: usize| {
        let inputs = vec![zeros([256, cols])];
        Case::new(format!("256x{cols}"), Softmax { log: true }, inputs, Tolerance::exact())
    };
    // Four rows a workgroup where they are short, three of 18,855 rounds each.
    assert_eq!(groups(&rows(1025), "softmax_subgroup"), 64);
    assert_eq!(groups(&rows(50_257), "softmax_subgroup"), 256u64.div_ceil(3));
    // A head of a few elements has room for a million keys in one binding.
    let keys = |count: usize| {
        let tensor = |tokens: usize| Tensor::f32([1, tokens, 4], vec![0.0; tokens * 4]).ok();
        let mut inputs = vec![tensor(1), tensor(count), tensor(count)];
        inputs.resize(6, None);
        Case::new(format!("{count} keys"), Attention::new(1, 1, 4), inputs, Tolerance::exact())
    };
    let long = keys(1 << 20);
    assert_eq!(names(&long, &caps), ["attention_split"]);
    assert!(groups(&long, "attention_split") >= 3);
}
