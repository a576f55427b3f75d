//! Properties over random shapes: kernels against their references, and graphs with random
//! sizes against the CPU. A failing case is shrunk and printed by proptest.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use tilewright::Tensor;
use tilewright::ops::{
    Attention, Case, LayerNorm, Layout, Matmul, Op, Outcome, Rng, Softmax, Tolerance, run_cpu,
    verify_case, verify_cpu,
};
use tilewright::tensor::{DType, Dim, Sizes};

use crate::common;

/// The same cases on every run and machine; `PROPTEST_RNG_SEED` draws others.
fn seed() -> RngSeed {
    match Config::default().rng_seed {
        RngSeed::Random => RngSeed::Fixed(2017),
        chosen => chosen,
    }
}

/// Every case compiles pipelines of its own, so their number is what the test costs.
fn config(cases: u32) -> Config {
    Config { cases, rng_seed: seed(), failure_persistence: None, ..Config::default() }
}

/// Runs a case on every variant of its op that takes it, at least one, and on the CPU route.
fn check(case: &Case) -> Result<(), TestCaseError> {
    let mut ran = 0;
    for kernel in case.op.entry().kernels {
        match verify_case(&common::shared(), case, *kernel) {
            Outcome::Passed { .. } => ran += 1,
            Outcome::NotRun(_) => {}
            Outcome::Failed(why) => {
                prop_assert!(false, "{} on {}: {why}", case.label, kernel.name());
            }
        }
    }
    prop_assert!(ran > 0, "{}: no variant takes it", case.label);
    let cpu = verify_cpu(case);
    prop_assert!(matches!(cpu, Outcome::Passed { .. }), "{} on the CPU: {cpu:?}", case.label);
    Ok(())
}

/// `c u sum_k |x w|` per element of y, with u = 2^-24 and c = k / 4 + 8: kernels add at least
/// four products apart before they join a sum, and a few more roundings follow.
fn dot_bound(layout: Layout, x: &Tensor, weight: &Tensor) -> Vec<f64> {
    let magnitude = |t: &Tensor| {
        let values = t.to_f32().expect("a float tensor").iter().map(|v| v.abs()).collect();
        Some(Tensor::f32(t.shape(), values).expect("as many values as elements"))
    };
    let op = Matmul::plain(layout);
    let operands = [magnitude(x), magnitude(weight), None, None];
    let sums = run_cpu(&op, &operands, &Sizes::default()).expect("a valid product");
    let k = x.shape().last();
    let factor = (k as f64 / 4.0 + 8.0) * 2f64.powi(-24);
    sums[0].as_f32().expect("f32").iter().map(|&s| f64::from(s) * factor).collect()
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn matmul_of_any_shape(
        m in 1usize..70, n in 1usize..90, k in 1usize..130, batch in 1usize..3,
        nt in any::<bool>(), bias in any::<bool>(), residual in any::<bool>(),
        half in 0usize..3, seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let layout = if nt { Layout::Nt } else { Layout::Nn };
        let dims = if nt { [n, k] } else { [k, n] };
        let dtype = [DType::F32, DType::F16, DType::BF16][half];
        let weight = rng.tensor(dims).cast(dtype).expect("float to float");
        let op = Matmul::plain(layout);
        let x = rng.tensor([batch, m, k]);
        let bound = dot_bound(layout, &x, &weight);
        let inputs = vec![
            Some(x),
            Some(weight),
            bias.then(|| rng.tensor([n])),
            residual.then(|| rng.tensor([batch, m, n])),
        ];
        let label = format!("{batch}x{m}x{n}x{k} {layout:?} {dtype}");
        // The bias and the residual add a rounding each, of values of order one.
        let tolerance = Tolerance::f32(5e-7, 5e-7).with_bound(bound);
        check(&Case::new(label, op, inputs, tolerance))?;
    }

    #[test]
    fn attention_of_any_shape(
        batch in 1usize..3, groups in 1usize..3, per_group in 1usize..4, head_dim in 8usize..97,
        queries in 1usize..40, keys in 1usize..70, causal in any::<bool>(),
        masked in any::<bool>(), seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let heads = groups * per_group;
        let keys = if causal { keys.max(queries) } else { keys };
        let op = Attention {
            causal,
            q_offset: Dim::Const(keys.saturating_sub(queries)),
            ..Attention::new(heads, groups, head_dim)
        };
        let mask = (0..batch * keys).map(|_| u32::from(rng.uniform() < 0.7)).collect();
        let mask = Tensor::u32([batch, keys], mask).expect("as many values as elements");
        let inputs = vec![
            Some(rng.tensor([batch, queries, heads * head_dim])),
            Some(rng.tensor([batch, keys, groups * head_dim])),
            Some(rng.tensor([batch, keys, groups * head_dim])),
            masked.then_some(mask),
            None,
            None,
        ];
        let label = format!("b{batch} h{heads}/{groups} d{head_dim} {queries}x{keys} causal {causal}");
        // Scores carry the rounding of their dot products into the exponent.
        check(&Case::new(label, op, inputs, Tolerance { nmse: 1e-10, ..Tolerance::f32(2e-5, 1e-5) }))?;
    }

    #[test]
    fn rows_of_any_length(rows in 1usize..20, cols in 1usize..1500, seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let x = rng.tensor([rows, cols]);
        let (weight, bias) = (rng.tensor([cols]), rng.tensor([cols]));
        let norm = LayerNorm { eps: 1e-5, with_sum: false };
        let inputs = vec![Some(x.clone()), None, Some(weight), Some(bias)];
        let tolerance = Tolerance::f32(1e-5, 1e-5);
        check(&Case::new(format!("norm {rows}x{cols}"), norm, inputs, tolerance.clone()))?;
        let softmax = Softmax { log: false };
        prop_assert_eq!(softmax.name(), "softmax");
        check(&Case::new(format!("softmax {rows}x{cols}"), softmax, vec![Some(x)], tolerance))?;
    }
}

#[test]
fn the_same_device_serves_two_threads() {
    let gpu = Arc::new(common::shared());
    let work = |seed: u64| {
        let gpu = Arc::clone(&gpu);
        std::thread::spawn(move || {
            let mut rng = Rng::new(seed);
            let norm = LayerNorm { eps: 1e-5, with_sum: false };
            let inputs = vec![Some(rng.tensor([40, 96])), None, None, None];
            let case = Case::new("threads", norm, inputs, Tolerance::f32(1e-5, 1e-5));
            (0..20).all(|_| {
                let kernel = case.op.entry().kernels[0];
                !matches!(verify_case(&gpu, &case, kernel), Outcome::Failed(_))
            })
        })
    };
    let threads: Vec<_> = (0..4).map(work).collect();
    assert!(threads.into_iter().all(|t| t.join().expect("no panic")));
}
