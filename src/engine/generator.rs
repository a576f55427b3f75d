//! A generating model on a device: prompts in, ids out, keys and values kept in between.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Device;
use super::decoding::Decoding;
use crate::error::{Error, Result};
use crate::gpu::Buffer;
use crate::graph::{
    Ahead, DeviceWeights, Graph, HostStates, Progress, Session, SessionOptions, States, fuse,
};
use crate::models::{BuildOptions, Kind, ModelInfo, NEXT_TOKEN, Outputs, open};
use crate::ops::Sampling;
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
    fn covers(&self, other: &Self) -> bool {
        self.batch >= other.batch && self.context >= other.context && self.source >= other.source
    }

    fn joined(&self, other: &Self) -> Self {
        Self {
            batch: self.batch.max(other.batch),
            context: self.context.max(other.context),
            source: self.source.max(other.source),
        }
    }

    /// These sizes as symbols of a graph.
    fn sizes(&self, graph: &Graph) -> Sizes {
        let chunk = CHUNK.min(self.context);
        let values = [
            ("batch", self.batch),
            ("tokens", chunk),
            ("past", self.context),
            ("context", self.context),
            ("source", self.source),
        ];
        named_sizes(graph, &values)
    }
}

/// Sizes by symbol name; those the graph does not have are left out.
pub(super) fn named_sizes(graph: &Graph, values: &[(&str, usize)]) -> Sizes {
    let known = values.iter().filter_map(|(name, v)| Some((graph.find_symbol(name)?, *v)));
    known.fold(Sizes::default(), |sizes, (sym, value)| sizes.with(sym, value))
}

/// A model that generates, with its weights and caches on a device.
///
/// Generations run one at a time; calls from several threads wait for each other.
pub struct Generator {
    info: ModelInfo,
    notices: Vec<String>,
    pub(super) encode: Option<Arc<Graph>>,
    pub(super) decode: Arc<Graph>,
    device: Device,
    engine: Mutex<Option<Engine>>,
    pub(super) host_states: HostStates,
}

/// The sessions of a model on a GPU, for a capacity.
pub(super) struct Engine {
    capacity: Capacity,
    pub(super) states: Arc<States>,
    pub(super) encode: Option<Session>,
    pub(super) decode: Session,
    pub(super) ahead: Ahead,
    /// Holds one state while rows are exchanged; made at the first exchange.
    pub(super) scratch: Option<Buffer>,
}

impl Engine {
    fn new(
        generator: &Generator,
        weights: &Arc<DeviceWeights>,
        capacity: Capacity,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Self> {
        let states = States::new();
        let mut session = |graph: &Arc<Graph>| {
            let options =
                SessionOptions { states: Some(Arc::clone(&states)), ..SessionOptions::default() };
            let sizes = capacity.sizes(graph);
            Session::new(Arc::clone(graph), weights, sizes, &options, &mut *progress)
        };
        let encode = generator.encode.as_ref().map(&mut session).transpose()?;
        let decode = session(&generator.decode)?;
        let ahead = Ahead::new(&decode, NEXT_TOKEN, "input_ids", DEPTH)?;
        Ok(Self { capacity, states, encode, decode, ahead, scratch: None })
    }
}

impl Generator {
    /// Opens a model folder whose class generates. The options' `max_tokens` bounds prompt and
    /// result together; their `outputs` are chosen here.
    ///
    /// Errors as [`open`] does, and when the model is an encoder.
    pub fn open(folder: impl AsRef<Path>, device: Device, options: &BuildOptions) -> Result<Self> {
        let folder = folder.as_ref();
        let build = |outputs| open(folder, &BuildOptions { outputs, ..*options });
        let mut model = build(Outputs::Decode)?;
        // Position tables end there, so the bound is the model's limit from now on.
        if let Some(most) = options.max_tokens {
            model.info.max_tokens = model.info.max_tokens.min(most);
            if let Some(decoder) = &mut model.info.decoder {
                decoder.max_tokens = decoder.max_tokens.min(most);
            }
        }
        let encode = match model.info.kind {
            Kind::EncoderDecoder => Some(Arc::new(fuse(build(Outputs::Encode)?.graph, &[])?)),
            _ => None,
        };
        Ok(Self {
            info: model.info,
            notices: model.notices,
            encode,
            decode: Arc::new(fuse(model.graph, &[])?),
            device,
            engine: Mutex::default(),
            host_states: HostStates::default(),
        })
    }

    /// Sizes and ids.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What the user should know about the folder's files, one line each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The fused graphs: the encoder's, where there is one, and the decoding step's.
    pub fn graphs(&self) -> (Option<&Graph>, &Graph) {
        (self.encode.as_deref(), &self.decode)
    }

    /// The largest values of the decoding graph's symbols for a capacity, for plans.
    pub fn sizes(&self, capacity: Capacity) -> (Option<Sizes>, Sizes) {
        (self.encode.as_deref().map(|g| capacity.sizes(g)), capacity.sizes(&self.decode))
    }

    /// What is wrong with the weights, as far as they were read.
    pub fn warnings(&self) -> Vec<String> {
        let mut all = self.decode.warnings();
        all.extend(self.encode.iter().flat_map(|g| g.warnings()));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Loads weights, compiles kernels and makes caches for a capacity ahead of the first
    /// generation. Caches only grow, and only here and in [`start`](Self::start).
    pub fn reserve(
        &self,
        capacity: Capacity,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.engine(capacity, progress).map(drop)
    }

    fn engine(
        &self,
        wanted: Capacity,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<MutexGuard<'_, Option<Engine>>> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let Device::Gpu(weights) = &self.device else { return Ok(engine) };
        if engine.as_ref().is_none_or(|e| !e.capacity.covers(&wanted)) {
            let capacity = engine.as_ref().map_or(wanted, |e| e.capacity.joined(&wanted));
            // The old caches go first, so that both never exist at once.
            *engine = None;
            *engine = Some(Engine::new(self, weights, capacity, progress)?);
        }
        Ok(engine)
    }

    /// Begins a generation: `prompts` are what the decoder continues, one row each, at least
    /// one token long; `sources` are the encoder's inputs, as many, where there is an encoder
    /// (the prompts must then be equally long); `room` is how many tokens may follow;
    /// `sampling` is how the device chooses them, where it does.
    ///
    /// Errors name what does not fit: counts that differ, an empty prompt, ids beyond the
    /// vocabulary, more tokens than the model takes.
    pub fn start(
        &self,
        sources: &[Vec<u32>],
        prompts: &[Vec<u32>],
        room: usize,
        sampling: Sampling,
    ) -> Result<Decoding<'_>> {
        let longest = |rows: &[Vec<u32>]| rows.iter().map(Vec::len).max().unwrap_or(0);
        let capacity = Capacity {
            batch: prompts.len(),
            context: longest(prompts) + room,
            source: longest(sources),
        };
        self.check(sources, prompts, &capacity)?;
        let engine = self.engine(capacity, &mut |_| ControlFlow::Continue(()))?;
        Decoding::new(self, engine, [sources, prompts], sampling, capacity, CHUNK)
    }

    fn check(&self, sources: &[Vec<u32>], prompts: &[Vec<u32>], size: &Capacity) -> Result<()> {
        let fail = |message: String| Err(Error::Argument(message));
        if prompts.is_empty() {
            return fail("no prompt was given".to_owned());
        }
        let limits = [
            ("prompt", prompts, self.info.output_vocab_size(), self.info.max_output_tokens()),
            ("encoder input", sources, self.info.vocab_size, self.info.max_tokens),
        ];
        for (what, rows, vocab, most) in limits {
            for (i, row) in rows.iter().enumerate() {
                if row.is_empty() {
                    return fail(format!("{what} {i} is empty; at least one token is needed"));
                }
                if row.len() > most {
                    let tokens = row.len();
                    return fail(format!(
                        "{what} {i} has {tokens} tokens, the model takes at most {most}"
                    ));
                }
                if let Some(id) = row.iter().find(|&&id| id as usize >= vocab) {
                    return fail(format!(
                        "{what} {i}: token id {id} is beyond the vocabulary of {vocab}"
                    ));
                }
            }
        }
        let most = self.info.max_output_tokens();
        if size.context > most {
            let tokens = size.context;
            return fail(format!(
                "prompt and result take {tokens} tokens, the model at most {most}"
            ));
        }
        let wanted = if self.encode.is_some() { prompts.len() } else { 0 };
        if sources.len() != wanted {
            return fail(format!("{} encoder inputs for {} prompts", sources.len(), prompts.len()));
        }
        if self.encode.is_some() && prompts.iter().any(|p| p.len() != prompts[0].len()) {
            return fail("behind an encoder all prompts must be equally long".to_owned());
        }
        Ok(())
    }
}
