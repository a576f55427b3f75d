//! Mesa's llvmpipe leaves loops after 65,535 rounds of one invocation, all its loops together, without
//! a word. Long rows and sums were silently wrong there: sampling from 120,000 tokens gave the last id
//! always.

use tilewright::Tensor;
use tilewright::gpu::Gpu;
use tilewright::ops::{
    Case, CrossEntropy, Matmul, Op, Rng, RunOptions, Sample, Sampling, Softmax, Tolerance, run,
};
use tilewright::tensor::Dim;

use crate::common;

/// Runs the kernel that models would run, and holds it to the op's reference.
fn check(gpu: &Gpu, label: &str, op: impl Op, inputs: Vec<Option<Tensor>>, tolerance: Tolerance) {
    let case = Case::new(label, op, inputs, tolerance);
    let got = run(gpu, &*case.op, &case.inputs, &case.sizes, RunOptions::default()).expect(label);
    let want = case.reference().expect(label);
    let found = case.tolerance.compare(&got[0], &want[0], 0).expect("equal shapes");
    assert!(found.passed, "{label}: {found:?}");
}

#[test]
fn tokens_are_drawn_from_a_vocabulary_of_128256() {
    const VOCABULARY: usize = 128_256;
    let gpu = common::shared();
    let mut logits: Vec<f32> = {
        let mut rng = Rng::new(1);
        (0..VOCABULARY).map(|_| rng.normal()).collect()
    };
    logits[122_851] = 9.0;
    let x = Tensor::f32([1, VOCABULARY], logits).expect("as many values as elements");
    let warm = Sampling { temperature: 0.7, seed: 6, ..Sampling::GREEDY };
    let draw = |sampling: Sampling, step| {
        let inputs = vec![Some(x.clone()), Some(sampling.settings().expect("settings"))];
        check(&gpu, &format!("{sampling:?} {step:?}"), Sample { step }, inputs, Tolerance::exact());
    };
    for step in 0..4 {
        let step = Dim::Const(step);
        draw(Sampling { top_k: 50, ..warm }, step);
        draw(Sampling { top_p: 0.9, ..warm }, step);
        draw(Sampling { top_k: 50, top_p: 0.9, ..warm }, step);
    }
    // One token is left to draw.
    let one = Sampling { top_k: 1, ..warm }.settings().expect("settings");
    let op = Sample { step: Dim::Const(0) };
    let got = run(&gpu, &op, &[Some(x), Some(one)], &Default::default(), RunOptions::default());
    assert_eq!(got.expect("runs")[0].as_u32().expect("ids"), [122_851]);
}

#[test]
fn rows_of_50257_columns_have_their_whole_sum() {
    let gpu = common::shared();
    let mut rng = Rng::new(2);
    // So many rows that workgroups of a software driver would walk four each.
    let (rows, cols) = (256, 50_257);
    let x = rng.tensor([rows, cols]);
    let targets = (0..rows).map(|_| rng.below(cols) as u32).collect();
    let targets = Tensor::u32([rows], targets).expect("as many values as elements");
    let op = CrossEntropy { ignored: -100, smoothing: 0.0 };
    let inputs = vec![Some(x.clone()), Some(targets)];
    check(&gpu, "cross entropy", op, inputs, Tolerance::f32(8e-6, 4e-6));
    let tolerance = Tolerance::f32(2e-7, 2e-5);
    check(&gpu, "softmax", Softmax { log: false }, vec![Some(x)], tolerance);
}

#[test]
fn products_sum_over_more_than_25000_elements() {
    let gpu = common::shared();
    let mut rng = Rng::new(3);
    // Up to 100,003 additions one after the other, each rounded by up to 2^-24 of the sum.
    let tolerance = Tolerance { nmse: 1e-8, ..Tolerance::f32(0.0, 1e-4) };
    // No whole groups of four, so that the kernel for every shape runs. Terms of one sign: a sum that
    // is left early is far off.
    for k in [30_001, 100_003] {
        let mut positive = |dims| Some(rng.tensor_with(dims, |r| 0.5 + r.uniform() as f32));
        let inputs = vec![positive([2, k]), positive([3, k]), None, None];
        let op = Matmul::linear();
        check(&gpu, &format!("inner {k}"), op, inputs, tolerance.clone());
    }
}
