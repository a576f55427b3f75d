//! The graph room on a device: replay, capacity, splitting, host devices.

use std::ops::ControlFlow;
use std::sync::Arc;

use tilewright::gpu::{Gpu, GpuOptions};
use tilewright::graph::{
    DeviceWeights, Executor, Fusion, Graph, HostSession, Plan, Session, SessionOptions, Weight,
    fuse,
};
use tilewright::ops::{Activate, Activation, Add, Attention, Embedding, LayerNorm, Matmul, Rng};
use tilewright::tensor::{Dim, Sizes, Sym, SymMeta};
use tilewright::{Format, Tensor};

use crate::allocations::allocations;
use crate::common;

const WIDTH: usize = 32;
const INNER: usize = 52;
const VOCAB: usize = 300;
const HEADS: usize = 4;

/// An embedding, one transformer layer and tied logits: every fusion finds work in it.
fn small_model() -> Graph {
    model_in(Format::F32)
}

/// The same with its matrices and its table stored so.
fn model_in(format: Format) -> Graph {
    let mut rng = Rng::new(3);
    let mut g = Graph::new();
    let (batch, tokens) = (g.symbol("batch").unwrap(), g.symbol("tokens").unwrap());
    let row = SymMeta::u32([Dim::Sym(batch), Dim::Sym(tokens)]);
    let ids = g.input("ids", row.clone());
    let mask = g.input("mask", row);
    let mut matrix = |g: &mut Graph, name: &str, n: usize, k: usize| {
        let scale = 1.0 / (k as f32).sqrt();
        let values = rng.tensor_with([n, k], |r| r.normal() * scale);
        g.weight(Weight::constant(name, values).stored_as(format))
    };
    let table = matrix(&mut g, "table", VOCAB, WIDTH);
    let mut rng = Rng::new(4);
    let mut vector =
        |g: &mut Graph, name: &str, n: usize| g.weight(Weight::constant(name, rng.tensor([n])));
    g.enter("layer.0");
    let embed = [Some(table), Some(ids), None, None, None, None];
    let x = g.apply(Embedding::default(), embed).unwrap();
    let mut project = |g: &mut Graph, name: &str, x, n, k| {
        let weight = matrix(g, name, n, k);
        let bias = vector(g, &format!("{name}.bias"), n);
        let y = g.apply(Matmul::linear(), [Some(x), Some(weight), None, None]).unwrap();
        g.apply(Add, [Some(y), Some(bias)]).unwrap()
    };
    let [q, k, v] = ["q", "k", "v"].map(|n| project(&mut g, n, x, WIDTH, WIDTH));
    let attention = Attention { scale: 0.3, ..Attention::new(HEADS, HEADS, WIDTH / HEADS) };
    let a = g.apply(attention, [Some(q), Some(k), Some(v), Some(mask), None, None]).unwrap();
    let o = project(&mut g, "o", a, WIDTH, WIDTH);
    let sum = g.apply(Add, [Some(o), Some(x)]).unwrap();
    let norm = LayerNorm { eps: 1e-5, with_sum: false };
    let x = g.apply(norm.clone(), [Some(sum), None, None, None]).unwrap();
    let h = project(&mut g, "up", x, INNER, WIDTH);
    let gelu = Activate { activation: Activation::GeluErf };
    let h = g.apply(gelu, [Some(h)]).unwrap();
    let h = project(&mut g, "down", h, WIDTH, INNER);
    let sum = g.apply(Add, [Some(x), Some(h)]).unwrap();
    let x = g.apply(norm, [Some(sum), None, None, None]).unwrap();
    g.leave();
    let logits = g.apply(Matmul::linear(), [Some(x), Some(table), None, None]).unwrap();
    g.output("hidden", x);
    g.output("logits", logits);
    g
}

fn inputs(batch: usize, tokens: usize) -> [(&'static str, Tensor); 2] {
    let mut rng = Rng::new((batch * 1000 + tokens) as u64);
    let ids = (0..batch * tokens).map(|_| rng.below(VOCAB) as u32).collect();
    let mask = (0..batch * tokens).map(|i| u32::from(i % tokens <= tokens * 2 / 3)).collect();
    let tensor = |values| Tensor::u32([batch, tokens], values).unwrap();
    [("ids", tensor(ids)), ("mask", tensor(mask))]
}

fn sizes(batch: usize, tokens: usize) -> Sizes {
    Sizes::default().with(Sym(0), batch).with(Sym(1), tokens)
}

fn session(gpu: &Gpu, graph: Graph, capacity: Sizes) -> tilewright::Result<Session> {
    let weights = DeviceWeights::new(gpu);
    let options = SessionOptions::default();
    Session::new(Arc::new(graph), &weights, capacity, &options, &mut |_| ControlFlow::Continue(()))
}

fn run(session: &Session, batch: usize, tokens: usize) -> (Vec<f32>, Vec<f32>) {
    let given = inputs(batch, tokens);
    let given: Vec<_> = given.iter().map(|(n, t)| (*n, t)).collect();
    let out = session.run(&given).unwrap();
    let get = |name: &str| out[name].as_f32().unwrap().to_vec();
    (get("hidden"), get("logits"))
}

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 2e-5, "{what}: element {i} is {g}, the CPU has {w}");
    }
}

#[test]
fn one_session_serves_every_size_and_agrees_with_the_cpu() {
    let gpu = common::shared();
    let session = session(&gpu, fuse(small_model(), &[]).unwrap(), sizes(3, 70)).unwrap();
    let options = SessionOptions::default();
    let unfused = HostSession::new(Arc::new(small_model()), &Arc::default(), &options);
    for (batch, tokens) in [(1, 1), (3, 70), (2, 7), (1, 64), (3, 33), (1, 9)] {
        let (hidden, logits) = run(&session, batch, tokens);
        let given = inputs(batch, tokens);
        let given: Vec<_> = given.iter().map(|(n, t)| (*n, t)).collect();
        let want = unfused.run(&given).unwrap();
        let what = format!("batch {batch} tokens {tokens}");
        assert_close(&hidden, want["hidden"].as_f32().unwrap(), &what);
        assert_close(&logits, want["logits"].as_f32().unwrap(), &what);
    }
}

#[test]
fn a_new_length_compiles_allocates_and_binds_nothing() {
    let gpu = common::open(GpuOptions::default());
    let session = session(&gpu, fuse(small_model(), &[]).unwrap(), sizes(2, 64)).unwrap();
    run(&session, 2, 64);
    let before = gpu.counters();
    for tokens in [1, 5, 8, 33, 64] {
        run(&session, 1, tokens);
    }
    let after = gpu.counters();
    assert_eq!(after.buffers, before.buffers, "buffers");
    assert_eq!(after.bind_groups, before.bind_groups, "bind groups");
    assert_eq!(after.pipelines, before.pipelines, "pipelines");
    assert_eq!(after.submissions - before.submissions, 5, "one submission per step");
}

/// Parameters and grids of a step with other sizes: what a decoding step prepares for each token.
#[test]
fn preparing_a_step_allocates_nothing_on_the_host() {
    let gpu = common::shared();
    let session = session(&gpu, fuse(small_model(), &[]).unwrap(), sizes(2, 64)).unwrap();
    assert!(session.dispatches(&sizes(2, 64)).unwrap() > 0);
    assert!(session.dispatches(&sizes(2, 1)).unwrap() > 0);
    let made = allocations(|| {
        for tokens in [1, 5, 33, 64] {
            assert!(session.dispatches(&sizes(1, tokens)).unwrap() > 0);
        }
    });
    assert_eq!(made, 0);
}

#[test]
fn the_same_input_gives_the_same_bits() {
    let gpu = common::shared();
    let session = session(&gpu, fuse(small_model(), &[]).unwrap(), sizes(2, 40)).unwrap();
    let first = run(&session, 2, 40);
    run(&session, 1, 3);
    assert!(run(&session, 2, 40) == first);
}

#[test]
fn each_fusion_can_be_switched_off_and_none_changes_the_result() {
    let gpu = common::shared();
    let plain = fuse(small_model(), &Fusion::ALL).unwrap();
    let full = fuse(small_model(), &[]).unwrap();
    assert_eq!(plain.nodes().len(), small_model().nodes().len());
    // embedding, qkv, attention, out, norm, up, down, norm, logits
    assert_eq!(full.nodes().len(), 9);
    let want = run(&session(&gpu, plain, sizes(2, 30)).unwrap(), 2, 30);
    for off in Fusion::ALL {
        let graph = fuse(small_model(), &[off]).unwrap();
        let got = run(&session(&gpu, graph, sizes(2, 30)).unwrap(), 2, 30);
        assert_close(&got.0, &want.0, off.name());
        assert_close(&got.1, &want.1, off.name());
    }
}

#[test]
fn nodes_that_nobody_reads_are_taken_out() {
    let gpu = common::shared();
    let mut graph = small_model();
    let nodes = fuse(small_model(), &[]).unwrap().nodes().len();
    let hidden = graph.outputs()[0].1;
    let unread = graph.apply(Activate { activation: Activation::Relu }, [Some(hidden)]).unwrap();
    graph.apply(Activate { activation: Activation::Relu }, [Some(unread)]).unwrap();
    let graph = fuse(graph, &[]).unwrap();
    assert_eq!(graph.nodes().len(), nodes);
    let want = run(&session(&gpu, fuse(small_model(), &[]).unwrap(), sizes(1, 9)).unwrap(), 1, 9);
    assert!(run(&session(&gpu, graph, sizes(1, 9)).unwrap(), 1, 9) == want);
}

#[test]
fn weights_above_the_binding_limit_are_split_with_equal_bits() {
    let graph = || fuse(small_model(), &[]).unwrap();
    let whole = common::shared();
    let want = run(&session(&whole, graph(), sizes(2, 20)).unwrap(), 2, 20);
    // The table takes 38,400 bytes; the largest intermediate, the logits, 48,000 at 2 x 20.
    let limit = 8 * 1024;
    let clamped = common::open(GpuOptions { max_binding: Some(limit), ..GpuOptions::default() });
    let error = session(&clamped, graph(), sizes(2, 20)).map(drop).unwrap_err().to_string();
    assert!(error.contains("over the device's largest binding"), "{error}");
    let small = session(&clamped, graph(), sizes(1, 6)).unwrap();
    assert!(small.plan().splits.iter().any(|s| s.name == "table" && s.parts > 3));
    assert!(small.plan().largest_binding <= limit);
    let want_small = run(&session(&whole, graph(), sizes(1, 6)).unwrap(), 1, 6);
    let got = run(&small, 1, 6);
    let differ = |a: &[f32], b: &[f32]| (0..a.len()).filter(|&i| a[i] != b[i]).count();
    assert_eq!(differ(&got.0, &want_small.0), 0, "hidden");
    assert_eq!(differ(&got.1, &want_small.1), 0, "logits");
    assert_eq!(want.0.len(), 2 * 20 * WIDTH);
}

#[test]
fn weights_in_blocks_agree_with_the_cpu_whole_and_in_parts() {
    let graph = || fuse(model_in(Format::Q8_0), &[]).unwrap();
    let options = SessionOptions::default();
    let given = inputs(1, 6);
    let given: Vec<_> = given.iter().map(|(n, t)| (*n, t)).collect();
    let host = HostSession::new(Arc::new(graph()), &Arc::default(), &options);
    let want = host.run(&given).unwrap();
    let whole = common::shared();
    let clamped = common::open(GpuOptions { max_binding: Some(8 * 1024), ..GpuOptions::default() });
    for gpu in [&whole, &clamped] {
        let session = session(gpu, graph(), sizes(1, 6)).unwrap();
        let (hidden, logits) = run(&session, 1, 6);
        assert_close(&hidden, want["hidden"].as_f32().unwrap(), "hidden");
        assert_close(&logits, want["logits"].as_f32().unwrap(), "logits");
    }
    // The table takes 9,600 bytes of quants and 600 of scales.
    let plan = Plan::new(&graph(), sizes(1, 6), 8 * 1024, false).unwrap();
    assert_eq!(
        plan.splits.iter().map(|s| (s.name.as_str(), s.parts)).next_back(),
        Some(("table", 2))
    );
    // Table, qkv, o and up in blocks; down, whose rows of 52 are none, and the vectors in f32.
    let blocks = (VOCAB + 4 * WIDTH + INNER) * WIDTH / 32 * 34;
    let plain = 4 * (WIDTH * INNER + 5 * WIDTH + INNER);
    let whole = Plan::new(&graph(), sizes(1, 6), u64::MAX, false).unwrap();
    assert_eq!(whole.weights, (blocks + plain) as u64);
    assert_eq!(graph().weights().iter().filter(|w| w.refused()).count(), 1);
}

#[test]
fn sizes_over_the_capacity_are_an_error() {
    let gpu = common::shared();
    let session = session(&gpu, small_model(), sizes(2, 16)).unwrap();
    let given = inputs(2, 17);
    let given: Vec<_> = given.iter().map(|(n, t)| (*n, t)).collect();
    let error = session.run(&given).unwrap_err().to_string();
    assert_eq!(error, "tokens is 17, over the planned capacity of 16");
}

#[test]
fn inputs_are_checked_by_name_dtype_and_shape() {
    let gpu = common::shared();
    let session = session(&gpu, small_model(), sizes(2, 16)).unwrap();
    let ids = Tensor::u32([2, 4], vec![0; 8]).unwrap();
    let short = Tensor::u32([2, 3], vec![1; 6]).unwrap();
    let float = Tensor::f32([2, 4], vec![1.0; 8]).unwrap();
    for (given, message) in [
        (vec![("ids", &ids)], "tensor `mask`: this input is missing"),
        (vec![("ids", &ids), ("mask", &short)], "tokens is 4 in `ids`"),
        (vec![("ids", &float), ("mask", &ids)], "got f32[2, 4], expected u32[batch, tokens]"),
        (vec![("ids", &ids), ("mask", &ids), ("other", &ids)], "is not an input"),
    ] {
        let error = session.run(&given).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_memory_budget_is_kept() {
    let options = GpuOptions { memory_budget: Some(1 << 20), ..GpuOptions::default() };
    let gpu = common::open(options);
    let error = session(&gpu, small_model(), sizes(64, 64)).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("out of device memory: "), "{error}");
}

#[test]
fn memory_comes_back_when_a_session_is_dropped() {
    let gpu = common::open(GpuOptions::default());
    let made = session(&gpu, small_model(), sizes(2, 16)).unwrap();
    assert!(gpu.allocated() >= made.plan().total());
    drop(made);
    assert_eq!(gpu.allocated(), 0);
}

#[test]
fn profile_names_every_node_and_its_clock() {
    let gpu = common::shared();
    let graph = fuse(small_model(), &[]).unwrap();
    let nodes = graph.nodes().len();
    let session = session(&gpu, graph, sizes(2, 16)).unwrap();
    let given = inputs(2, 16);
    let given: Vec<_> = given.iter().map(|(n, t)| (*n, t)).collect();
    let (times, clock) = session.profile(&given).unwrap();
    assert_eq!(times.len(), nodes);
    assert!(times.iter().all(|t| t.ns >= 0.0 && !t.kernel.is_empty()), "{times:?}");
    assert!(["device clock", "host clock"].contains(&clock.name()));
}

/// Attention alone, 12 heads of 64, from one packed projection.
fn attention_graph() -> Graph {
    let mut g = Graph::new();
    let tokens = g.symbol("tokens").unwrap();
    let qkv = g.input("qkv", SymMeta::f32([Dim::Const(1), Dim::Sym(tokens), Dim::Const(3 * 768)]));
    let op =
        Attention { k_column: 768, v_column: 1536, causal: true, ..Attention::new(12, 12, 64) };
    let a = g.apply(op, [Some(qkv), Some(qkv), Some(qkv), None, None, None]).unwrap();
    let norm = LayerNorm { eps: 1e-5, with_sum: false };
    let y = g.apply(norm, [Some(a), None, None, None]).unwrap();
    g.output("y", y);
    g
}

#[test]
fn attention_memory_grows_linearly_with_tokens() {
    let bytes = |tokens: usize| {
        let sizes = Sizes::default().with(Sym(0), tokens);
        Plan::new(&attention_graph(), sizes, u64::MAX, false).unwrap()
    };
    for tokens in [512, 1024, 2048, 4096, 8192, 16_384] {
        let plan = bytes(tokens);
        let t = tokens as u64;
        // One slot holds the attention's result; y has its own buffer and a host copy.
        assert_eq!(plan.slots, [t * 768 * 4]);
        assert_eq!(plan.inputs, t * 3 * 768 * 4);
        assert_eq!(plan.outputs, t * 768 * 4);
        assert_eq!(plan.total(), t * (3 + 1 + 1 + 1) * 768 * 4);
    }
}
