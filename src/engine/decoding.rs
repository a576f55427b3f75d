//! One generation under way: prefill in chunks, then a token per sequence and step.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use super::sessions::{Capacity, Sessions, Turn};
use crate::error::{Error, Result};
use crate::gpu::Clock;
use crate::graph::{Executor, NodeTime};
use crate::models::SAMPLING;
use crate::ops::Sampling;
use crate::tensor::{Shape, Sizes, Tensor};

/// A generation under way; made by [`Generator::start`](super::Generator::start).
///
/// Either the host chooses every token ([`prompt_logits`](Self::prompt_logits),
/// [`next_logits`](Self::next_logits)), or the device does and the host reads along
/// ([`run_ahead`](Self::run_ahead)).
pub struct Decoding<'a> {
    sessions: Arc<Sessions>,
    /// Generations run one at a time. Dropped after `sessions`, so that whoever is next can let
    /// the caches go.
    _turn: Turn<'a>,
    size: Capacity,
    /// The prompts, padded on the left to one length.
    prompt: Vec<u32>,
    prompt_tokens: usize,
    past: usize,
    /// Inputs that stay the same for the whole generation.
    fixed: Vec<(&'static str, Tensor)>,
}

/// How a generation on the device went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AheadStats {
    /// Steps submitted, prefill not counted.
    pub steps: usize,
    /// The most steps that were on their way at once: by how many the host lagged.
    pub deepest: usize,
}

impl<'a> Decoding<'a> {
    pub(super) fn new(
        turn: Turn<'a>,
        sessions: Arc<Sessions>,
        [sources, prompts]: [&[Vec<u32>]; 2],
        sampling: Sampling,
        size: Capacity,
    ) -> Result<Self> {
        let tokens = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let pads: Vec<usize> = prompts.iter().map(|p| tokens - p.len()).collect();
        let mut prompt = Vec::with_capacity(size.batch * tokens);
        for (row, &pad) in prompts.iter().zip(&pads) {
            // Any valid id does: padding is masked.
            prompt.extend(std::iter::repeat_n(row[0], pad).chain(row.iter().copied()));
        }
        let mut fixed = vec![(SAMPLING, sampling.settings()?)];
        let (batch, context) = (size.batch, size.context);
        let rows = |n: usize, value: &dyn Fn(usize, usize) -> u32| {
            let values = (0..batch * n).map(|i| value(i / n, i % n)).collect();
            Tensor::u32(Shape::new(&[batch, n])?, values)
        };
        if sessions.decode.graph().inputs().any(|(name, ..)| name == "pads") {
            fixed.push(("attention_mask", rows(context, &|b, t| u32::from(t >= pads[b]))?));
            let pads = pads.iter().map(|&p| p as u32).collect();
            fixed.push(("pads", Tensor::u32([batch], pads)?));
        }
        if let Some(encode) = &sessions.encode {
            let source = size.source;
            let mask = rows(source, &|b, t| u32::from(t < sources[b].len()))?;
            let ids = rows(source, &|b, t| sources[b].get(t).copied().unwrap_or(sources[b][0]))?;
            let inputs = [("input_ids", &ids), ("attention_mask", &mask)];
            encode.step(&inputs, &size.encoder(encode.graph())?, Some(&[]))?;
            fixed.push(("encoder_attention_mask", mask));
        }
        Ok(Self { sessions, _turn: turn, size, prompt, prompt_tokens: tokens, past: 0, fixed })
    }

    fn decode(&self) -> &dyn Executor {
        self.sessions.decode.as_ref()
    }

    /// Sizes of a step that puts `tokens` behind `past` others.
    fn sizes(&self, tokens: usize, past: usize) -> Result<Sizes> {
        self.size.step(self.decode().graph(), tokens, past)
    }

    /// Tokens every sequence has so far, padding included.
    pub fn past(&self) -> usize {
        self.past
    }

    /// One step on `ids` [batch, tokens], giving one output where it is wanted.
    fn step(&mut self, ids: &Tensor, wanted: Option<&str>) -> Result<Option<Tensor>> {
        let tokens = ids.shape().last();
        if self.past + tokens > self.size.context {
            let (past, context) = (self.past, self.size.context);
            let message =
                format!("{past} tokens and {tokens} more exceed the {context} planned for");
            return Err(Error::Argument(message));
        }
        let sizes = self.sizes(tokens, self.past)?;
        let inputs = self.inputs(ids);
        let mut outputs = self.decode().step(&inputs, &sizes, Some(wanted.as_slice()))?;
        self.past += tokens;
        Ok(wanted.and_then(|name| outputs.remove(name)))
    }

    /// The ids, and in the first step what stays the same for the whole generation.
    fn inputs<'t>(&'t self, ids: &'t Tensor) -> Vec<(&'t str, &'t Tensor)> {
        let fixed = self.fixed.iter().filter(|_| self.past == 0).map(|(name, t)| (*name, t));
        fixed.chain([("input_ids", ids)]).collect()
    }

    /// The prompt's tokens from `first` on, at most a chunk.
    fn prompt_chunk(&self, first: usize) -> Result<Tensor> {
        let end = self.prompt_tokens.min(first + self.size.chunk());
        let rows = self.prompt.chunks_exact(self.prompt_tokens);
        let ids = rows.flat_map(|row| row[first..end].iter().copied()).collect();
        Tensor::u32([self.size.batch, end - first], ids)
    }

    /// All of the prompt but its last chunk.
    fn prefill(&mut self) -> Result<()> {
        while self.past + self.size.chunk() < self.prompt_tokens {
            let ids = self.prompt_chunk(self.past)?;
            self.step(&ids, None)?;
        }
        Ok(())
    }

    /// Puts the prompt through the model and gives the logits f32 [batch, vocabulary] of the
    /// token that follows it.
    pub fn prompt_logits(&mut self) -> Result<Tensor> {
        self.prefill()?;
        let ids = self.prompt_chunk(self.past)?;
        self.step(&ids, Some("logits"))?.ok_or_else(|| Error::tensor("logits", "were not computed"))
    }

    /// Appends one id to every sequence and gives the logits of the token that follows.
    pub fn next_logits(&mut self, ids: &[u32]) -> Result<Tensor> {
        let ids = Tensor::u32([self.size.batch, 1], ids.to_vec())?;
        self.step(&ids, Some("logits"))?.ok_or_else(|| Error::tensor("logits", "were not computed"))
    }

    /// Continues sequence `rows[b]` as sequence b, for every b: what beam search needs.
    pub fn permute(&mut self, rows: &[usize]) -> Result<()> {
        if rows.iter().enumerate().all(|(to, &from)| to == from) {
            return Ok(());
        }
        self.decode().permute(rows, &self.sizes(1, self.past)?)
    }

    /// Lets the device choose every token and feed it to itself; `ids` is called with the ids
    /// of all sequences, step by step, a few steps late, and ends the generation with `Break`.
    /// At most `room` tokens follow the prompt.
    pub fn run_ahead(
        &mut self,
        room: usize,
        mut ids: impl FnMut(&[u32]) -> ControlFlow<()>,
    ) -> Result<AheadStats> {
        if room == 0 {
            return Ok(AheadStats::default());
        }
        self.prefill()?;
        let first = self.prompt_chunk(self.past)?;
        let room = room.min(self.size.context.saturating_sub(self.prompt_tokens).max(1));
        let sessions = Arc::clone(&self.sessions);
        let mut ahead = sessions.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.sizes(first.shape().last(), self.past)?;
        // A generation that failed may have left steps on their way.
        while ahead.take(&next)?.is_some() {}
        self.decode().write(&self.inputs(&first), &next)?;
        self.past += first.shape().last();
        let (mut submitted, mut taken, mut stopped) = (0, 0, false);
        while taken < room && !stopped {
            if submitted < room && !ahead.is_full() {
                ahead.submit(&next)?;
                next = self.sizes(1, self.past + submitted)?;
                submitted += 1;
                continue;
            }
            let Some(row) = ahead.take(&next)? else { break };
            taken += 1;
            stopped = ids(&row).is_break();
        }
        // Steps past the end were computed for nothing; their buffers must come back.
        while ahead.take(&next)?.is_some() {}
        self.past += submitted - 1;
        Ok(AheadStats { steps: submitted - 1, deepest: ahead.deepest() })
    }

    /// One step that appends an id to every sequence, with the time of every node on the
    /// device's own clock. Errors on the CPU path, which has none.
    pub fn profile(&mut self, ids: &[u32]) -> Result<(Vec<NodeTime>, Clock)> {
        let ids = Tensor::u32([self.size.batch, 1], ids.to_vec())?;
        let sizes = self.sizes(1, self.past)?;
        let times = self.decode().profile_step(&[("input_ids", &ids)], &sizes)?;
        self.past += 1;
        Ok(times)
    }
}
