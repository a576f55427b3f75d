//! A decoder run step by step, on a device or on the CPU.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tilewright::Tensor;
use tilewright::engine::Device;
use tilewright::graph::{Executor, Graph, Plan, SessionOptions, Size, fuse};
use tilewright::models::{self, BuildOptions, NEXT_TOKEN, Outputs, SAMPLING};
use tilewright::ops::Sampling;
use tilewright::tensor::{DType, Sizes};

use crate::golden::assert_close;

/// Sequences of tokens that grow together; shorter ones are padded on the left.
pub struct Steps {
    session: Arc<dyn Executor>,
    cache_bytes: u64,
    context: usize,
    past: usize,
    pads: Vec<u32>,
}

impl Steps {
    /// A decoder with caches for at most `batch` sequences of `context` tokens, fed at most
    /// `tokens` at a time.
    pub fn new(folder: &Path, device: &Device, most: [usize; 3]) -> Self {
        Self::keeping(folder, device, most, DType::F32)
    }

    /// The same with keys and values kept as `cache`.
    pub fn keeping(
        folder: &Path,
        device: &Device,
        [batch, tokens, context]: [usize; 3],
        cache: DType,
    ) -> Self {
        let options = BuildOptions {
            outputs: Outputs::Decode,
            max_tokens: Some(context),
            cache,
            ..BuildOptions::default()
        };
        let model = models::open(folder, &options).unwrap();
        let graph = Arc::new(fuse(model.graph, &[]).unwrap());
        let capacity = sizes(&graph, [batch, tokens, context, context]);
        let go_on = &mut |_: tilewright::graph::Progress<'_>| ControlFlow::Continue(());
        let session = device.session(&graph, capacity, &SessionOptions::default(), go_on).unwrap();
        // The plan of either: the CPU's session has none.
        let plan = Plan::new(&graph, capacity, u64::MAX, false).unwrap();
        Self { cache_bytes: plan.states, session, context, past: 0, pads: Vec::new() }
    }

    /// Bytes of the caches; `None` on the CPU, which makes them as long as a step needs.
    pub fn cache_bytes(&self) -> Option<u64> {
        self.session.capacity().map(|_| self.cache_bytes)
    }

    /// Starts anew with sequences that have this many padding tokens in front, in caches for
    /// `context` tokens.
    pub fn start(&mut self, pads: &[usize], context: usize) {
        self.pads = pads.iter().map(|&p| p as u32).collect();
        (self.past, self.context) = (0, context);
    }

    /// Appends tokens to every sequence; gives the logits [batch, vocabulary] of the last ones
    /// and the likeliest next token of each.
    pub fn step(&mut self, ids: &[&[u32]]) -> (Tensor, Vec<u32>) {
        let (batch, tokens) = (self.pads.len(), ids[0].len());
        let flat = ids.iter().flat_map(|row| row.iter().copied()).collect();
        let ids = Tensor::u32([batch, tokens], flat).unwrap();
        let pads = Tensor::u32([batch], self.pads.clone()).unwrap();
        let counts = |pad: &u32| (0..self.context as u32).map(|i| u32::from(i >= *pad)).collect();
        let mask: Vec<Vec<u32>> = self.pads.iter().map(counts).collect();
        let mask = Tensor::u32([batch, self.context], mask.concat()).unwrap();
        let greedy = Sampling::GREEDY.settings().unwrap();
        let inputs =
            [("input_ids", &ids), ("attention_mask", &mask), ("pads", &pads), (SAMPLING, &greedy)];
        let sizes = sizes(self.session.graph(), [batch, tokens, self.past, self.context]);
        let mut outputs = self.session.step(&inputs, &sizes, None).unwrap();
        self.past += tokens;
        let next = outputs[NEXT_TOKEN].as_u32().unwrap().to_vec();
        (outputs.remove("logits").unwrap(), next)
    }

    /// The texts in steps of these lengths, padded on the left, against the logits [batch,
    /// tokens, vocabulary] of a whole pass over them padded on the right.
    pub fn check(
        &mut self,
        texts: &[Vec<u32>],
        whole: &Tensor,
        lengths: &[usize],
        limit: f64,
        what: &str,
    ) {
        let [_, longest, vocab] = whole.shape().dims().try_into().unwrap();
        assert_eq!(lengths.iter().sum::<usize>(), longest, "{what}");
        let row = |tensor: &Tensor, i: usize| {
            let values = tensor.as_f32().unwrap()[i * vocab..(i + 1) * vocab].to_vec();
            Tensor::f32([vocab], values).unwrap()
        };
        let (pads, rows) = left_padded(texts);
        // Caches with room to spare: what lies behind the last token must not count.
        self.start(&pads, longest + 3);
        let mut end = 0;
        for &count in lengths {
            let tokens: Vec<&[u32]> = rows.iter().map(|row| &row[end..end + count]).collect();
            end += count;
            let (logits, _) = self.step(&tokens);
            for (b, &pad) in pads.iter().enumerate().filter(|(_, pad)| **pad < end) {
                let want = row(whole, b * longest + end - 1 - pad);
                let what = format!("{what}: row {b}, steps of {lengths:?}, at {end}");
                assert_close(&row(&logits, b), &want, None, limit, &what);
            }
        }
    }
}

/// The rows of a batch, each padded on the left to the longest one's length.
pub fn left_padded(rows: &[Vec<u32>]) -> (Vec<usize>, Vec<Vec<u32>>) {
    let longest = rows.iter().map(Vec::len).max().unwrap();
    let pads: Vec<usize> = rows.iter().map(|row| longest - row.len()).collect();
    let padded = rows.iter().zip(&pads).map(|(row, &pad)| [vec![0; pad], row.clone()].concat());
    (pads.clone(), padded.collect())
}

fn sizes(graph: &Graph, values: [usize; 4]) -> Sizes {
    let names = [Size::Batch, Size::Tokens, Size::Past, Size::Context];
    let named: Vec<_> = names.into_iter().zip(values).collect();
    graph.sizes(&named).unwrap()
}
