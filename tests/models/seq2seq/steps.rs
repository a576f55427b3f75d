//! An encoder's and a decoder's graph on one device, sharing what the encoder keeps.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use tilewright::Tensor;
use tilewright::engine::Device;
use tilewright::graph::{Executor, Graph, SessionOptions, Size, States, fuse};
use tilewright::models::{self, BuildOptions, NEXT_TOKEN, Outputs, SAMPLING};
use tilewright::ops::Sampling;
use tilewright::tensor::Shape;

use crate::golden::assert_close;

/// Sizes that both graphs are made for.
#[derive(Clone, Copy)]
pub struct Most {
    pub batch: usize,
    pub source: usize,
    pub context: usize,
}

/// The two graphs.
pub struct Steps {
    encode: Arc<dyn Executor>,
    decode: Arc<dyn Executor>,
    most: Most,
}

fn graph(folder: &Path, outputs: Outputs, most: Most) -> Arc<Graph> {
    let max_tokens = Some(most.source.max(most.context));
    let options = BuildOptions { outputs, max_tokens, ..BuildOptions::default() };
    let model = models::open(folder, &options).unwrap();
    Arc::new(fuse(model.graph, &[]).unwrap())
}

impl Steps {
    pub fn new(folder: &Path, device: &Device, most: Most) -> Self {
        let Most { batch, source, context } = most;
        let states = Some(States::new());
        let options = SessionOptions { states, ..SessionOptions::default() };
        let session = |outputs, sizes: &[(Size, usize)]| {
            let graph = graph(folder, outputs, most);
            let go_on = &mut |_: tilewright::graph::Progress<'_>| ControlFlow::Continue(());
            device.session(&graph, graph.sizes(sizes).unwrap(), &options, go_on).unwrap()
        };
        let shared = [(Size::Batch, batch), (Size::Source, source)];
        let more = [(Size::Tokens, context), (Size::Past, context), (Size::Context, context)];
        let encode = session(Outputs::Encode, &shared);
        let decode = session(Outputs::Decode, &[shared.as_slice(), &more].concat());
        Self { encode, decode, most }
    }

    /// Encodes `ids` and keeps what the decoder reads.
    pub fn encode(&self, ids: &Tensor, mask: &Tensor) -> BTreeMap<String, Tensor> {
        let inputs = [("input_ids", ids), ("attention_mask", mask)];
        self.encode.run(&inputs).unwrap()
    }

    /// Decodes `ids`, of which `past` others came before.
    pub fn decode(&self, ids: &Tensor, past: usize, mask: &Tensor) -> BTreeMap<String, Tensor> {
        let greedy = Sampling::GREEDY.settings().unwrap();
        let inputs = [("input_ids", ids), ("encoder_attention_mask", mask), (SAMPLING, &greedy)];
        let [batch, tokens] = ids.shape().dims().try_into().unwrap();
        let mut sizes = vec![(Size::Batch, batch), (Size::Tokens, tokens), (Size::Past, past)];
        sizes.push((Size::Context, self.most.context));
        sizes.push((Size::Source, mask.shape().last()));
        let sizes = self.decode.graph().sizes(&sizes).unwrap();
        self.decode.step(&inputs, &sizes, None).unwrap()
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
