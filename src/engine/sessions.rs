//! The sessions of a generating model, made for the most that generations will need.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};

use super::device::Device;
use crate::error::Result;
use crate::graph::{Ahead, Executor, Graph, Progress, SessionOptions, Size, States};
use crate::models::NEXT_TOKEN;
use crate::tensor::Sizes;

/// Prompt tokens that go through the model in one step; longer prompts take several, so that
/// intermediates stay small.
const CHUNK: usize = 256;

/// Decoding steps that may be on their way before the oldest one's ids are waited for.
const DEPTH: usize = 6;

/// The most sequences, tokens and encoder tokens that generations will need; the caches are
/// made for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Sequences at once, beams counted.
    pub batch: usize,
    /// Tokens of a sequence, prompt included.
    pub context: usize,
    /// Tokens of an encoder's input; 0 without an encoder.
    pub source: usize,
}

impl Capacity {
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.batch >= other.batch && self.context >= other.context && self.source >= other.source
    }

    pub(super) fn joined(&self, other: &Self) -> Self {
        Self {
            batch: self.batch.max(other.batch),
            context: self.context.max(other.context),
            source: self.source.max(other.source),
        }
    }

    /// Prompt tokens of one step.
    pub(super) fn chunk(&self) -> usize {
        CHUNK.min(self.context).max(1)
    }

    /// Sizes of the encoder's graph.
    pub(super) fn encoder(&self, graph: &Graph) -> Result<Sizes> {
        graph.sizes(&[(Size::Batch, self.batch), (Size::Source, self.source)])
    }

    /// Sizes of a decoding step that puts `tokens` behind `past` others.
    pub(super) fn step(&self, graph: &Graph, tokens: usize, past: usize) -> Result<Sizes> {
        let all = [
            (Size::Batch, self.batch),
            (Size::Tokens, tokens),
            (Size::Past, past),
            (Size::Context, self.context),
            (Size::Source, self.source),
        ];
        graph.sizes(if self.source == 0 { &all[..4] } else { &all })
    }

    /// The largest sizes of any decoding step.
    pub(super) fn largest_step(&self, graph: &Graph) -> Result<Sizes> {
        self.step(graph, self.chunk(), self.context)
    }
}

/// The right to use a model's sessions, held for as long as a generation takes.
pub(super) type Turn<'a> = MutexGuard<'a, Option<Arc<Sessions>>>;

/// Sessions for a capacity, with the caches that they share.
pub(super) struct Sessions {
    pub capacity: Capacity,
    /// The encoder, whose graph keeps the cross-attention's keys and values.
    pub encode: Option<Arc<dyn Executor>>,
    pub decode: Arc<dyn Executor>,
    /// The loop in which a step's ids become the next step's input.
    pub ahead: Mutex<Box<dyn Ahead>>,
}

impl Sessions {
    pub fn new(
        encode: Option<&Arc<Graph>>,
        decode: &Arc<Graph>,
        device: &Device,
        capacity: Capacity,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Self> {
        let options = SessionOptions { states: Some(States::new()), ..SessionOptions::default() };
        let encode = match encode {
            Some(graph) => {
                let sizes = capacity.encoder(graph)?;
                Some(device.session(graph, sizes, &options, &mut *progress)?)
            }
            None => None,
        };
        let sizes = capacity.largest_step(decode)?;
        let decode = device.session(decode, sizes, &options, progress)?;
        let ahead = Arc::clone(&decode).ahead(NEXT_TOKEN, "input_ids", DEPTH)?;
        Ok(Self { capacity, encode, decode, ahead: Mutex::new(ahead) })
    }
}
