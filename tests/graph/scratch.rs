//! Scratch memory of kernels in two stages: planned, and worth the same as in the eager path.

use std::ops::ControlFlow;
use std::sync::Arc;

use tilewright::Tensor;
use tilewright::gpu::Gpu;
use tilewright::graph::{DeviceWeights, Graph, Plan, Policy, Session, SessionOptions, Tune};
use tilewright::ops::{Attention, Rng, RunOptions, run};
use tilewright::tensor::{Dim, Sizes, Sym, SymMeta};

use crate::common;

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 16;
const QUERIES: usize = 2;

fn op() -> Attention {
    Attention { scale: 0.7, ..Attention::new(HEADS, KV_HEADS, DIM) }
}

/// A step of generation: two queries of each sequence against all its keys.
fn decoding() -> Graph {
    let mut g = Graph::new();
    let (batch, keys) = (g.symbol("batch").unwrap(), g.symbol("keys").unwrap());
    let cells = |tokens, heads| SymMeta::f32([Dim::Sym(batch), tokens, Dim::Const(heads * DIM)]);
    let q = g.input("q", cells(Dim::Const(QUERIES), HEADS));
    let k = g.input("k", cells(Dim::Sym(keys), KV_HEADS));
    let v = g.input("v", cells(Dim::Sym(keys), KV_HEADS));
    let out = g.apply(op(), [Some(q), Some(k), Some(v), None, None, None]).unwrap();
    g.output("out", out);
    g
}

fn sizes(batch: usize, keys: usize) -> Sizes {
    Sizes::default().with(Sym(0), batch).with(Sym(1), keys)
}

fn operands(batch: usize, keys: usize) -> [Tensor; 3] {
    let mut rng = Rng::new((batch * 10_000 + keys) as u64);
    let kv = [batch, keys, KV_HEADS * DIM];
    [rng.tensor([batch, QUERIES, HEADS * DIM]), rng.tensor(kv), rng.tensor(kv)]
}

fn forced(kernel: &str) -> Policy {
    let force = vec![("attention".to_owned(), kernel.to_owned())];
    Policy { force, tune: Tune::Off, ..Policy::default() }
}

#[test]
fn a_plan_counts_the_scratch_of_a_decoding_step() {
    let gpu = common::shared();
    let graph = decoding();
    let plan = |kernel, batch, keys| {
        Plan::of_device(&graph, sizes(batch, keys), gpu.caps(), &forced(kernel)).unwrap()
    };
    let without = plan("attention_decode", 3, 2000);
    assert!(without.slots.is_empty(), "{:?}", without.slots);
    let with = plan("attention_split", 3, 2000);
    let [scratch] = with.slots[..] else { panic!("one slot: {:?}", with.slots) };
    assert_eq!(with.total(), without.total() + scratch);
    // At most a part for every 256 keys of every row: its head's vectors and one more, in f32.
    let part = (DIM as u64 / 4 + 1) * 16;
    assert!(scratch.is_multiple_of(part), "{scratch}");
    let rows = 3 * (HEADS * QUERIES) as u64;
    assert!((rows * part..=rows * 8 * part).contains(&scratch), "{scratch}");
    // Larger sizes need no less: what is planned for the capacity must do for every step.
    let mut last = 0;
    for batch in 1..=40 {
        let slots = plan("attention_split", batch, 2000).slots;
        assert!(slots[0] >= last, "batch {batch}: {} after {last}", slots[0]);
        last = slots[0];
    }
    let policy = forced("attention_split");
    let session = session(&gpu, &policy, sizes(3, 2000));
    assert_eq!(session.plan().slots, with.slots);
    assert_eq!(session.plan().total(), with.total());
}

fn session(gpu: &Gpu, policy: &Policy, capacity: Sizes) -> Session {
    let weights = DeviceWeights::with_policy(gpu, policy.clone());
    let options = SessionOptions::default();
    let graph = Arc::new(decoding());
    Session::new(graph, &weights, capacity, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn two_stages_give_the_same_bits_in_a_session_as_in_the_eager_path() {
    let gpu = common::shared();
    let session = session(&gpu, &forced("attention_split"), sizes(3, 2000));
    for (batch, keys) in [(1, 2000), (3, 2000), (2, 513), (1, 1), (3, 300)] {
        let tensors = operands(batch, keys);
        let [q, k, v] = &tensors;
        let got = session.run(&[("q", q), ("k", k), ("v", v)]).unwrap();
        let inputs: Vec<_> = tensors.iter().cloned().map(Some).chain([None, None, None]).collect();
        let at = sizes(batch, keys);
        let eager = |kernel| {
            let options = RunOptions { kernel: Some(kernel), ..RunOptions::default() };
            run(&gpu, &op(), &inputs, &at, options).unwrap().remove(0)
        };
        let (got, want) = (got["out"].as_f32().unwrap(), eager("attention_split"));
        assert_eq!(got, want.as_f32().unwrap(), "batch {batch}, {keys} keys");
        for (got, want) in got.iter().zip(eager("attention_decode").as_f32().unwrap()) {
            assert!((got - want).abs() <= 2e-5, "batch {batch}, {keys} keys: {got} for {want}");
        }
    }
}
