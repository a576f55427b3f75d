//! An encoder's and a decoder's graph on one device, sharing what the encoder keeps.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tilewright::Tensor;
use tilewright::graph::{
    Graph, HostStates, HostWeights, Session, SessionOptions, States, fuse, step_cpu,
};
use tilewright::models::{self, BuildOptions, Device, Outputs};
use tilewright::tensor::Sizes;

/// Sizes that both graphs are made for.
#[derive(Clone, Copy)]
pub struct Most {
    pub batch: usize,
    pub source: usize,
    pub context: usize,
}

/// The two graphs.
pub struct Steps {
    encode: Arc<Graph>,
    decode: Arc<Graph>,
    most: Most,
    place: Place,
}

enum Place {
    Gpu { encode: Box<Session>, decode: Box<Session> },
    Cpu { weights: Arc<HostWeights>, states: HostStates },
}

fn graph(folder: &Path, outputs: Outputs) -> Arc<Graph> {
    let options = BuildOptions { outputs, ..BuildOptions::default() };
    let model = models::open(folder, &options).unwrap();
    Arc::new(fuse(model.graph, &[]).unwrap())
}

/// Sizes by name, of those symbols that the graph has.
fn sizes(graph: &Graph, named: &[(&str, usize)]) -> Sizes {
    let mut sizes = Sizes::default();
    for (name, value) in named {
        if let Some(symbol) = graph.find_symbol(name) {
            sizes.set(symbol, *value);
        }
    }
    sizes
}

impl Steps {
    pub fn new(folder: &Path, device: &Device, most: Most) -> Self {
        let (encode, decode) = (graph(folder, Outputs::Encode), graph(folder, Outputs::Decode));
        let place = match device {
            Device::Cpu(weights) => {
                Place::Cpu { weights: Arc::clone(weights), states: HostStates::default() }
            }
            Device::Gpu(weights) => {
                let states = States::new();
                let session = |graph: &Arc<Graph>| {
                    let Most { batch, source, context } = most;
                    let named = [("batch", batch), ("source", source), ("context", context)];
                    let more = [("tokens", context), ("past", context)];
                    let capacity = sizes(graph, &[named.as_slice(), &more].concat());
                    let states = Some(Arc::clone(&states));
                    let options = SessionOptions { states, ..SessionOptions::default() };
                    let go_on = &mut |_: tilewright::graph::Progress<'_>| ControlFlow::Continue(());
                    Box::new(
                        Session::new(Arc::clone(graph), weights, capacity, &options, go_on)
                            .unwrap(),
                    )
                };
                Place::Gpu { encode: session(&encode), decode: session(&decode) }
            }
        };
        Self { encode, decode, most, place }
    }

    /// Encodes `ids` and keeps what the decoder reads.
    pub fn encode(&self, ids: &Tensor, mask: &Tensor) -> BTreeMap<String, Tensor> {
        let inputs = [("input_ids", ids), ("attention_mask", mask)];
        match &self.place {
            Place::Gpu { encode, .. } => encode.run(&inputs).unwrap(),
            Place::Cpu { weights, states } => {
                step_cpu(&self.encode, weights, states, &inputs, Sizes::default()).unwrap()
            }
        }
    }

    /// Decodes `ids`, of which `past` others came before.
    pub fn decode(&self, ids: &Tensor, past: usize, mask: &Tensor) -> BTreeMap<String, Tensor> {
        let inputs = [("input_ids", ids), ("encoder_attention_mask", mask)];
        let base = sizes(&self.decode, &[("past", past), ("context", self.most.context)]);
        match &self.place {
            Place::Gpu { decode, .. } => {
                let sizes = self.decode.bind_sizes(&inputs, base).unwrap();
                decode.step(&inputs, &sizes, None).unwrap()
            }
            Place::Cpu { weights, states } => {
                step_cpu(&self.decode, weights, states, &inputs, base).unwrap()
            }
        }
    }
}
