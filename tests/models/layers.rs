//! What a layer costs: the ops of one layer of each kind of model, in the order they run. Each is a
//! dispatch; attention over many keys, split between workgroups, is one more.

use tilewright::engine::{Device, Generator};
use tilewright::graph::{Graph, fuse};
use tilewright::models::{self, BuildOptions};

use crate::golden::Golden;

/// Ops of the layer named so.
fn layer(graph: &Graph, name: &str) -> String {
    let ops = graph.nodes().iter().filter(|node| node.layer == name).map(|node| node.op.name());
    ops.collect::<Vec<_>>().join(" ")
}

fn step(folder: &str, name: &str) -> String {
    let folder = Golden::open(folder).folder;
    let model = Generator::open(folder, Device::cpu(), &BuildOptions::default()).unwrap();
    layer(model.graphs().1, name)
}

#[test]
fn a_decoding_step() {
    let llama = "rms_norm matmul rope_append attention matmul rms_norm matmul matmul";
    for folder in ["llama_gqa", "llama3_rope_tied", "mistral", "qwen2"] {
        assert_eq!(step(folder, "layers.1"), llama, "{folder}");
    }
    let gpt2 = "layer_norm matmul cache_append attention matmul layer_norm matmul matmul";
    assert_eq!(step("gpt2", "h.1"), gpt2);
    // With norms of heads between projections and rotations.
    assert_eq!(step("qwen3", "layers.1"), llama);
}

#[test]
fn a_whole_pass() {
    let whole = |folder: &str, name: &str| {
        let model = models::open(&Golden::open(folder).folder, &BuildOptions::default()).unwrap();
        layer(&fuse(model.graph, &[]).unwrap(), name)
    };
    let bert = "matmul attention matmul layer_norm matmul matmul layer_norm";
    assert_eq!(whole("bert_base", "encoder.layer.1"), bert);
    let llama = "rms_norm matmul rope attention matmul rms_norm matmul matmul";
    assert_eq!(whole("llama_gqa", "layers.1"), llama);
    // Gates and what they scale come as one tensor.
    let packed = "layer_norm matmul rope attention matmul layer_norm matmul matmul";
    assert_eq!(whole("../goldens_encoders/modernbert_mlm", "layers.1"), packed);
}
