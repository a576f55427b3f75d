//! A generating model on a device: prompts in, ids out, keys and values kept in between.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::decoding::Decoding;
use super::device::Device;
use super::sessions::Capacity;
use super::sessions::{Sessions, Turn};
use crate::error::{Error, Result};
use crate::graph::{Graph, Progress, fuse};
use crate::models::{BuildOptions, Kind, ModelInfo, Outputs, open};
use crate::ops::Sampling;
use crate::tensor::Sizes;

/// A model that generates, with its weights and caches on a device.
///
/// Generations run one at a time; calls from several threads wait for each other.
pub struct Generator {
    info: ModelInfo,
    notices: Vec<String>,
    encode: Option<Arc<Graph>>,
    decode: Arc<Graph>,
    device: Device,
    /// Locked for as long as a generation takes.
    sessions: Mutex<Option<Arc<Sessions>>>,
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
            sessions: Mutex::default(),
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

    /// The largest sizes of both graphs for a capacity, for plans. Errors when the capacity has a
    /// source and the model no encoder, or the other way round.
    pub fn sizes(&self, capacity: Capacity) -> Result<(Option<Sizes>, Sizes)> {
        let encode = self.encode.as_deref().map(|graph| capacity.encoder(graph)).transpose()?;
        Ok((encode, capacity.largest_step(&self.decode)?))
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
        self.sessions(capacity, progress).map(drop)
    }

    /// Sessions that cover what is wanted, and the turn to use them.
    fn sessions(
        &self,
        wanted: Capacity,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(Turn<'_>, Arc<Sessions>)> {
        let mut turn = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // Old caches go first, so that both never exist at once.
        let made = match turn.take() {
            Some(made) if made.capacity.covers(&wanted) => made,
            old => {
                let capacity = old.map_or(wanted, |old| old.capacity.joined(&wanted));
                let (encode, decode) = (self.encode.as_ref(), &self.decode);
                Arc::new(Sessions::new(encode, decode, &self.device, capacity, progress)?)
            }
        };
        let sessions = Arc::clone(turn.insert(made));
        Ok((turn, sessions))
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
        let (turn, made) = self.sessions(capacity, &mut |_| ControlFlow::Continue(()))?;
        Decoding::new(turn, made, [sources, prompts], sampling, capacity)
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
