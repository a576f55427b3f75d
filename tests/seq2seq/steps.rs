//! An encoder's and a decoder's graph on one device, sharing what the encoder keeps.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use tilewright::Tensor;
use tilewright::engine::Device;
use tilewright::graph::{
    Graph, HostStates, HostWeights, Session, SessionOptions, States, fuse, step_cpu,
};
use tilewright::models::{self, BuildOptions, NEXT_TOKEN, Outputs, SAMPLING};
use tilewright::ops::Sampling;
use tilewright::tensor::{Shape, Sizes};

use super::golden::assert_close;

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

fn graph(folder: &Path, outputs: Outputs, most: Most) -> Arc<Graph> {
    let max_tokens = Some(most.source.max(most.context));
    let options = BuildOptions { outputs, max_tokens, ..BuildOptions::default() };
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
        let [encode, decode] =
            [Outputs::Encode, Outputs::Decode].map(|outputs| graph(folder, outputs, most));
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
        let greedy = Sampling::GREEDY.settings().unwrap();
        let inputs = [("input_ids", ids), ("encoder_attention_mask", mask), (SAMPLING, &greedy)];
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

    /// Runs encoder and decoder, the latter in steps of these many tokens in turn, and holds what
    /// they give against `whole`, a whole pass on the same inputs, where masks count it.
    pub fn check(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        whole: &BTreeMap<String, Tensor>,
        lengths: &[usize],
        limit: f64,
        what: &str,
    ) {
        let source_mask = &inputs["attention_mask"];
        let encoded = self.encode(&inputs["input_ids"], source_mask);
        let name = "encoder_last_hidden_state";
        assert_close(&encoded[name], &whole[name], Some(source_mask), limit, what);
        let [ids, mask] = ["decoder_input_ids", "decoder_attention_mask"].map(|name| &inputs[name]);
        let logits = &whole["logits"];
        let [batch, tokens, vocab] = logits.shape().dims().try_into().unwrap();
        let (mut past, mut compared) = (0, 0);
        for length in lengths.iter().cycle() {
            if past == tokens {
                break;
            }
            let end = (past + length).min(tokens);
            let got = self.decode(&columns(ids, past, end), past, source_mask);
            let flat = Tensor::f32([batch, 1, vocab], got["logits"].as_f32().unwrap().to_vec());
            let want = columns(logits, end - 1, end);
            let counts = columns(mask, end - 1, end);
            if counts.as_u32().unwrap().contains(&1) {
                let what = format!("{what}: tokens {past}..{end}");
                assert_close(&flat.unwrap(), &want, Some(&counts), limit, &what);
                compared += 1;
            }
            let rows = got["logits"].as_f32().unwrap().chunks_exact(vocab);
            let likeliest: Vec<_> = rows.map(|row| best(row, &[])).collect();
            assert_eq!(got[NEXT_TOKEN].as_u32().unwrap(), likeliest, "{what}");
            past = end;
        }
        assert!(compared > 0, "{what}: nothing compared");
    }
}

/// Positions `from..to` of a [batch, tokens, ..] tensor.
fn columns(tensor: &Tensor, from: usize, to: usize) -> Tensor {
    let dims = tensor.shape().dims().to_vec();
    let width: usize = dims[2..].iter().product();
    let mut shape = dims.clone();
    shape[1] = to - from;
    let shape = Shape::new(&shape).unwrap();
    let range = from * width..to * width;
    match tensor.as_u32() {
        Ok(values) => Tensor::u32(shape, cut(values, dims[1] * width, range)),
        Err(_) => Tensor::f32(shape, cut(tensor.as_f32().unwrap(), dims[1] * width, range)),
    }
    .unwrap()
}

fn cut<T: Copy>(values: &[T], row: usize, range: Range<usize>) -> Vec<T> {
    values.chunks_exact(row).flat_map(|row| &row[range.clone()]).copied().collect()
}

/// The first of the largest logits, those of `banned` ids left out.
pub fn best(logits: &[f32], banned: &[u32]) -> u32 {
    let ids = (0..logits.len()).filter(|i| !banned.contains(&(*i as u32)));
    ids.reduce(|a, b| if logits[b] > logits[a] { b } else { a }).unwrap() as u32
}
