//! What only feeds products, stored in f16 where digits may be lost.

use std::ops::ControlFlow;
use std::sync::Arc;

use tilewright::Tensor;
use tilewright::engine::{Device, verify};
use tilewright::gpu::{Caps, Cooperative, Gpu, GpuOptions};
use tilewright::graph::{
    DeviceWeights, Executor, Graph, HostSession, Plan, Policy, PrecisionMode, Session,
    SessionOptions, Size, Tune, Value, Weight, fuse, narrow,
};
use tilewright::ops::{
    Activate, Activation, Add, Attention, Gated, LayerNorm, Matmul, Precision, RmsNorm, Rng,
};
use tilewright::tensor::{DType, Dim, Sizes, Sym, SymMeta};

use crate::common;

const WIDTH: usize = 36;
const INNER: usize = 51;
const HEADS: usize = 4;

struct Builder {
    graph: Graph,
    rng: Rng,
}

impl Builder {
    fn linear(&mut self, x: Value, n: usize, k: usize) -> Value {
        let scale = 1.0 / (k as f32).sqrt();
        let values = self.rng.tensor_with([n, k], |r| r.normal() * scale);
        let name = format!("weight {}", self.graph.nodes().len());
        let weight = self.graph.weight(Weight::constant(&name, values));
        self.graph.apply(Matmul::linear(), [Some(x), Some(weight), None, None]).unwrap()
    }

    fn layer_norm(&mut self, x: Value) -> Value {
        let op = LayerNorm { eps: 1e-5, with_sum: false };
        self.graph.apply(op, [Some(x), None, None, None]).unwrap()
    }

    fn add(&mut self, a: Value, b: Value) -> Value {
        self.graph.apply(Add, [Some(a), Some(b)]).unwrap()
    }
}

/// A pre-norm layer with a gated feed-forward and a plain one behind it, a last norm that is given
/// out, and a product of it.
fn pre_norm() -> Graph {
    let mut graph = Graph::new();
    let (batch, tokens) = (graph.symbol("batch").unwrap(), graph.symbol("tokens").unwrap());
    let dims = [Dim::Sym(batch), Dim::Sym(tokens)];
    let x = graph.input("x", SymMeta::f32([dims[0], dims[1], Dim::Const(WIDTH)]));
    let mut b = Builder { graph, rng: Rng::new(11) };
    let norm = RmsNorm { eps: 1e-6, unit_offset: false, with_sum: false };
    let h = b.graph.apply(norm, [Some(x), None, None]).unwrap();
    let [q, k, v] = [(); 3].map(|()| b.linear(h, WIDTH, WIDTH));
    let attention = Attention { causal: true, ..Attention::new(HEADS, HEADS, WIDTH / HEADS) };
    let a = b.graph.apply(attention, [Some(q), Some(k), Some(v), None, None, None]).unwrap();
    let o = b.linear(a, WIDTH, WIDTH);
    let x = b.add(o, x);
    let h = b.layer_norm(x);
    let [gate, up] = [(); 2].map(|()| b.linear(h, INNER, WIDTH));
    let gated = Gated { activation: Activation::Silu };
    let h = b.graph.apply(gated, [Some(gate), Some(up)]).unwrap();
    let h = b.linear(h, WIDTH, INNER);
    let x = b.add(h, x);
    let h = b.layer_norm(x);
    let h = b.linear(h, INNER, WIDTH);
    let gelu = Activate { activation: Activation::GeluErf };
    let h = b.graph.apply(gelu, [Some(h)]).unwrap();
    let h = b.linear(h, WIDTH, INNER);
    let x = b.add(h, x);
    let last = b.layer_norm(x);
    let logits = b.linear(last, 2 * WIDTH, WIDTH);
    b.graph.output("last", last);
    b.graph.output("logits", logits);
    fuse(b.graph, &[]).unwrap()
}

fn sizes(batch: usize, tokens: usize) -> Sizes {
    Sizes::default().with(Sym(0), batch).with(Sym(1), tokens)
}

fn policy(precision: PrecisionMode) -> Policy {
    Policy { precision, tune: Tune::Off, ..Policy::default() }
}

fn with_f16() -> Caps {
    Caps { f16: true, ..Caps::baseline() }
}

/// The ops whose results are stored in f16, in order.
fn narrowed(graph: &Graph, caps: &Caps, precision: PrecisionMode) -> Vec<&'static str> {
    let narrowed = narrow(graph, sizes(3, 70), caps, &policy(precision)).unwrap();
    let Some(graph) = narrowed else { return Vec::new() };
    let found: Vec<_> = graph.nodes().iter().filter(|node| graph.narrows(node)).collect();
    assert!(!found.is_empty());
    // First results only: the sum of a norm is the residual stream.
    for node in graph.nodes() {
        let f16 = node.outputs.iter().filter(|v| graph.meta(**v).dtype == DType::F16).count();
        assert_eq!(f16, usize::from(graph.narrows(node)), "{}", node.op.name());
        assert_eq!(graph.meta(node.outputs[0]).dtype == DType::F16, f16 == 1);
    }
    found.iter().map(|node| node.op.name()).collect()
}

#[test]
fn what_only_feeds_products_is_narrowed() {
    let graph = pre_norm();
    let found = narrowed(&graph, &with_f16(), PrecisionMode::Fast);
    // Not the last norm, which is given out, and no product that is added to the residual stream.
    assert_eq!(found, ["rms_norm", "attention", "layer_norm", "matmul", "layer_norm", "matmul"]);
    assert!(narrowed(&graph, &with_f16(), PrecisionMode::Exact).is_empty());
    // f32 weights, no matrix units.
    assert!(narrowed(&graph, &with_f16(), PrecisionMode::Auto).is_empty());
    assert!(narrowed(&graph, &Caps::baseline(), PrecisionMode::Fast).is_empty());
}

/// A post-norm block: the norm's result is added to what comes out of the products.
fn feed_forward() -> Graph {
    let mut graph = Graph::new();
    let tokens = graph.symbol("tokens").unwrap();
    let x = graph.input("x", SymMeta::f32([Dim::Sym(tokens), Dim::Const(WIDTH)]));
    let mut b = Builder { graph, rng: Rng::new(12) };
    let x = b.layer_norm(x);
    let h = b.linear(x, INNER, WIDTH);
    let h = b.linear(h, WIDTH, INNER);
    let sum = b.add(h, x);
    b.graph.output("sum", sum);
    fuse(b.graph, &[]).unwrap()
}

#[test]
fn what_also_feeds_a_residual_is_not_narrowed() {
    assert_eq!(narrowed(&feed_forward(), &with_f16(), PrecisionMode::Fast), ["matmul"]);
}

#[test]
fn no_node_loses_its_kernel_by_it() {
    let mut graph = Graph::new();
    let tokens = graph.symbol("tokens").unwrap();
    let x = graph.input("x", SymMeta::f32([Dim::Sym(tokens), Dim::Const(WIDTH)]));
    let mut b = Builder { graph, rng: Rng::new(13) };
    let h = b.layer_norm(x);
    let h = b.linear(h, 260, WIDTH);
    let h = b.linear(h, WIDTH, 260);
    b.graph.output("h", h);
    let graph = fuse(b.graph, &[]).unwrap();
    let fragment = Cooperative { m: 16, n: 16, k: 16, multiplicands: DType::F16, sums: DType::F32 };
    let caps = |max_binding| Caps {
        subgroup: Some(32),
        subgroup_range: Some((32, 32)),
        cooperative: vec![fragment],
        workgroup_memory: 48 << 10,
        max_binding,
        ..with_f16()
    };
    let found = |policy: &Policy, max_binding| -> Vec<&str> {
        let sizes = graph.sizes(&[(Size::Tokens, 1200)]).unwrap();
        let graph = narrow(&graph, sizes, &caps(max_binding), policy).unwrap().unwrap();
        let nodes = graph.nodes().iter().filter(|node| graph.narrows(node));
        nodes.map(|node| node.op.name()).collect()
    };
    let fast = policy(PrecisionMode::Fast);
    assert_eq!(found(&fast, 1 << 30), ["layer_norm", "matmul"]);
    // Matrix units take sums to f16 by way of scratch, in which every tile has its slot.
    assert_eq!(found(&fast, 1_300_000), ["layer_norm"]);
    // Forced, the kernel without them does it.
    let force = vec![("matmul".to_owned(), "matmul_tiled".to_owned())];
    assert_eq!(found(&Policy { force, ..fast }, 1_300_000), ["layer_norm", "matmul"]);
}

#[test]
fn a_plan_shrinks_by_it() {
    let plan = |graph: &Graph, precision| {
        Plan::of_device(graph, sizes(64, 70), &with_f16(), &policy(precision)).unwrap()
    };
    let graph = pre_norm();
    let (exact, fast) = (plan(&graph, PrecisionMode::Exact), plan(&graph, PrecisionMode::Fast));
    assert!(fast.total() < exact.total());
    assert!(fast.intermediates() < exact.intermediates());
    // The norm's result in f32, and the inner layer's in half of that per element.
    let graph = feed_forward();
    let (outer, inner) = (64 * WIDTH as u64 * 4, 64 * INNER as u64);
    assert_eq!(plan(&graph, PrecisionMode::Exact).slots, [outer, 4 * inner]);
    assert_eq!(plan(&graph, PrecisionMode::Fast).slots, [outer, 2 * inner]);
}

fn session(gpu: &Gpu, precision: PrecisionMode, capacity: Sizes) -> Session {
    let weights = DeviceWeights::with_policy(gpu, policy(precision));
    let go_on = &mut |_: tilewright::graph::Progress<'_>| ControlFlow::Continue(());
    let options = SessionOptions::default();
    Session::new(Arc::new(pre_norm()), &weights, capacity, &options, go_on).unwrap()
}

#[test]
fn a_narrowed_graph_is_as_near_to_the_cpu_as_f16_is() {
    let gpu = common::open(GpuOptions::default());
    let fast = session(&gpu, PrecisionMode::Fast, sizes(3, 70));
    let exact = session(&gpu, PrecisionMode::Exact, sizes(3, 70));
    let narrowed = fast.graph().nodes().iter().filter(|node| fast.graph().narrows(node)).count();
    let has_f16 = gpu.caps().f16;
    assert_eq!(narrowed, if has_f16 { 6 } else { 0 });
    assert_eq!(fast.plan().intermediates() < exact.plan().intermediates(), has_f16);
    let host = HostSession::new(Arc::new(pre_norm()), &Arc::default(), &SessionOptions::default());
    for (batch, tokens) in [(3, 70), (1, 1), (1, 7), (2, 33), (1, 9)] {
        let x = Rng::new((batch * 100 + tokens) as u64).tensor([batch, tokens, WIDTH]);
        let (got, want) = (fast.run(&[("x", &x)]).unwrap(), host.run(&[("x", &x)]).unwrap());
        let plain = exact.run(&[("x", &x)]).unwrap();
        for name in ["last", "logits"] {
            let values = |t: &Tensor| t.as_f32().unwrap().to_vec();
            let (got, want, plain) =
                (values(&got[name]), values(&want[name]), values(&plain[name]));
            let scale = want.iter().fold(0f32, |most, v| most.max(v.abs()));
            let error = got.iter().zip(&want).fold(0f32, |most, (g, w)| most.max((g - w).abs()));
            assert!(error <= 2e-3 * scale, "{name} of {batch} x {tokens}: {error} at {scale}");
            assert_eq!(got != plain, has_f16, "{name} of {batch} x {tokens}");
        }
    }
}

#[test]
fn verification_tells_what_was_narrowed() {
    let gpu = common::open(GpuOptions::default());
    let x = Rng::new(5).tensor([2, 19, WIDTH]);
    let graph = Arc::new(pre_norm());
    let checks = |precision| {
        let device = Device::with_policy(&gpu, policy(precision));
        verify(&graph, device, &[("x", &x)], &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let fast = checks(PrecisionMode::Fast);
    assert!(fast.iter().all(|check| check.passed()), "{fast:?}");
    let stored = fast.iter().filter(|check| check.stored == DType::F16).count();
    assert_eq!(stored, if gpu.caps().f16 { 6 } else { 0 });
    if gpu.caps().f16 {
        // From the first narrowed value on, and that is the first norm.
        assert!(fast.iter().all(|check| check.precision == Precision::Fast));
    }
    let exact = checks(PrecisionMode::Exact);
    let wide = |check: &tilewright::engine::NodeCheck| check.stored == DType::F32;
    assert!(exact.iter().all(|check| check.passed() && wide(check)), "{exact:?}");
}
