//! Fixed bugs that belong to no room alone, each test named after its bug. A bug of one room has its
//! test in that room's folder.

#[path = "../common/mod.rs"]
mod common;
mod rounds;

use std::ops::ControlFlow;
use std::sync::Arc;

use tilewright::Tensor;
use tilewright::graph::{DeviceWeights, Graph, Session, SessionOptions, Weight};
use tilewright::ops::{Add, Request, find};
use tilewright::tensor::{Sizes, SymMeta};

fn plus_constant(value: f32) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", SymMeta::f32([4]));
    let constant = Tensor::f32([4], vec![value; 4]).expect("four values");
    let b = graph.weight(Weight::constant("layer.0.bias", constant));
    let y = graph.apply(Add, [Some(x), Some(b)]).expect("shapes agree");
    graph.output("y", y);
    graph
}

/// Copies on a device were shared by tensor name alone, so that the second of two models with
/// equal names read the first one's weights.
#[test]
fn two_models_on_one_device_keep_their_own_weights() {
    let weights = DeviceWeights::new(&common::shared());
    let x = Tensor::f32([4], vec![0.0; 4]).expect("four values");
    for value in [1.0, 2.0] {
        let graph = Arc::new(plus_constant(value));
        let go_on = &mut |_: tilewright::graph::Progress<'_>| ControlFlow::Continue(());
        let options = SessionOptions::default();
        let session = Session::new(graph, &weights, Sizes::default(), &options, go_on);
        let out = session.and_then(|s| s.run(&[("x", &x)])).expect("runs");
        assert_eq!(out["y"].as_f32().expect("f32"), [value; 4]);
    }
}

/// `op embedding` on a device took ids beyond the table: the kernel left their rows unwritten.
#[test]
fn an_id_beyond_the_table_is_an_error_before_the_device_sees_it() {
    let table = Tensor::f32([3, 2], vec![0.0; 6]).expect("six values");
    let ids = Tensor::u32([1, 2], vec![2, 3]).expect("two ids");
    let mut request = Request::new("embedding").tensor("table", table).tensor("ids", ids);
    let entry = find("embedding").expect("is registered");
    let error = (entry.build)(&mut request).map(drop).expect_err("3 is beyond").to_string();
    assert_eq!(error, "embedding: id 3 is beyond a table of 3 rows");
}
