//! A decoder run step by step, on a device or on the CPU.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tilewright::Tensor;
use tilewright::graph::{Graph, HostStates, Session, SessionOptions, fuse, step_cpu};
use tilewright::models::{self, BuildOptions, Device, NEXT_TOKEN, Outputs};
use tilewright::tensor::Sizes;

/// Sequences of tokens that grow together; shorter ones are padded on the left.
pub struct Stepper {
    graph: Arc<Graph>,
    device: Device,
    session: Option<Session>,
    states: HostStates,
    batch: usize,
    context: usize,
    past: usize,
    pads: Vec<u32>,
}

impl Stepper {
    /// A decoder with caches for `batch` sequences of `context` tokens, fed at most `tokens` at
    /// a time.
    pub fn new(folder: &Path, device: &Device, [batch, tokens, context]: [usize; 3]) -> Self {
        let options = BuildOptions {
            outputs: Outputs::Decode,
            max_tokens: Some(context),
            ..BuildOptions::default()
        };
        let model = models::open(folder, &options).unwrap();
        let graph = Arc::new(fuse(model.graph, &[]).unwrap());
        let capacity = sizes(&graph, [batch, tokens, context, context]);
        let session = match device {
            Device::Cpu(_) => None,
            Device::Gpu(weights) => {
                let (graph, options) = (Arc::clone(&graph), SessionOptions::default());
                let mut go_on = |_: tilewright::graph::Progress<'_>| ControlFlow::Continue(());
                Some(Session::new(graph, weights, capacity, &options, &mut go_on).unwrap())
            }
        };
        let (device, states) = (device.clone(), HostStates::default());
        Self { graph, device, session, states, batch, context, past: 0, pads: vec![0; batch] }
    }

    /// Starts anew with sequences that have this many padding tokens in front.
    pub fn start(&mut self, pads: &[usize]) {
        assert_eq!(pads.len(), self.batch);
        self.pads = pads.iter().map(|&p| p as u32).collect();
        self.past = 0;
    }

    /// Appends tokens to every sequence; gives the logits [batch, vocabulary] of the last ones
    /// and the likeliest next token of each.
    pub fn step(&mut self, ids: &[&[u32]]) -> (Tensor, Vec<u32>) {
        let tokens = ids[0].len();
        let flat = ids.iter().flat_map(|row| row.iter().copied()).collect();
        let ids = Tensor::u32([self.batch, tokens], flat).unwrap();
        let pads = Tensor::u32([self.batch], self.pads.clone()).unwrap();
        let counts = |pad: &u32| (0..self.context as u32).map(|i| u32::from(i >= *pad)).collect();
        let mask: Vec<Vec<u32>> = self.pads.iter().map(counts).collect();
        let mask = Tensor::u32([self.batch, self.context], mask.concat()).unwrap();
        let inputs = [("input_ids", &ids), ("attention_mask", &mask), ("pads", &pads)];
        let sizes = sizes(&self.graph, [self.batch, tokens, self.past, self.context]);
        let mut outputs: BTreeMap<String, Tensor> = match (&self.session, &self.device) {
            (Some(session), _) => session.step(&inputs, &sizes, None).unwrap(),
            (None, Device::Cpu(weights)) => {
                step_cpu(&self.graph, weights, &self.states, &inputs, sizes).unwrap()
            }
            (None, Device::Gpu(_)) => panic!("a device without a session"),
        };
        self.past += tokens;
        let next = outputs[NEXT_TOKEN].as_u32().unwrap().to_vec();
        (outputs.remove("logits").unwrap(), next)
    }
}

fn sizes(graph: &Graph, values: [usize; 4]) -> Sizes {
    let names = ["batch", "tokens", "past", "context"];
    names.iter().zip(values).fold(Sizes::default(), |sizes, (name, value)| {
        sizes.with(graph.find_symbol(name).unwrap(), value)
    })
}
