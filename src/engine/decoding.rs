//! One generation under way: prefill in chunks, then a token per sequence and step.

use std::ops::ControlFlow;
use std::sync::MutexGuard;

use super::Device;
use super::generator::{Capacity, Engine, Generator, named_sizes};
use crate::error::{Error, Result};
use crate::gpu::Clock;
use crate::graph::{Graph, NodeTime, step_cpu};
use crate::models::{NEXT_TOKEN, SAMPLING};
use crate::ops::Sampling;
use crate::tensor::{Shape, Sizes, Tensor};

/// A generation under way; made by [`Generator::start`].
///
/// Either the host chooses every token ([`prompt_logits`](Self::prompt_logits),
/// [`next_logits`](Self::next_logits)), or the device does and the host reads along
/// ([`run_ahead`](Self::run_ahead)).
pub struct Decoding<'a> {
    generator: &'a Generator,
    engine: MutexGuard<'a, Option<Engine>>,
    size: Capacity,
    chunk: usize,
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
    /// The most steps that were on their way at once: how late the host read along.
    pub deepest: usize,
}

impl<'a> Decoding<'a> {
    pub(super) fn new(
        generator: &'a Generator,
        engine: MutexGuard<'a, Option<Engine>>,
        [sources, prompts]: [&[Vec<u32>]; 2],
        sampling: Sampling,
        size: Capacity,
        chunk: usize,
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
        if generator.decode.inputs().any(|(name, ..)| name == "pads") {
            fixed.push(("attention_mask", rows(context, &|b, t| u32::from(t >= pads[b]))?));
            let pads = pads.iter().map(|&p| p as u32).collect();
            fixed.push(("pads", Tensor::u32([batch], pads)?));
        }
        let mut decoding = Self {
            generator,
            engine,
            size,
            chunk: chunk.min(context).max(1),
            prompt,
            prompt_tokens: tokens,
            past: 0,
            fixed,
        };
        if !sources.is_empty() {
            let source = size.source;
            let mask = rows(source, &|b, t| u32::from(t < sources[b].len()))?;
            let ids = rows(source, &|b, t| sources[b].get(t).copied().unwrap_or(sources[b][0]))?;
            decoding.encode(&ids, &mask)?;
            decoding.fixed.push(("encoder_attention_mask", mask));
        }
        Ok(decoding)
    }

    /// Runs the encoder, whose graph keeps the cross-attention's keys and values.
    fn encode(&mut self, ids: &Tensor, mask: &Tensor) -> Result<()> {
        let Some(graph) = &self.generator.encode else { return Ok(()) };
        let inputs = [("input_ids", ids), ("attention_mask", mask)];
        let sizes = self.sizes(graph, 0);
        match (&*self.engine, self.generator.device()) {
            (Some(Engine { encode: Some(session), .. }), _) => {
                session.step(&inputs, &sizes, Some(&[]))?;
            }
            (_, Device::Cpu(weights)) => {
                step_cpu(graph, weights, &self.generator.host_states, &inputs, sizes)?;
            }
            _ => return Err(Error::Argument("the encoder has no session".to_owned())),
        }
        Ok(())
    }

    fn sizes(&self, graph: &Graph, tokens: usize) -> Sizes {
        let Capacity { batch, context, source } = self.size;
        let values = [
            ("batch", batch),
            ("tokens", tokens),
            ("past", self.past),
            ("context", context),
            ("source", source),
        ];
        named_sizes(graph, &values)
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
        let sizes = self.sizes(&self.generator.decode, tokens);
        let mut outputs = match (&*self.engine, self.generator.device()) {
            (Some(engine), _) => engine.decode.step(
                &self.inputs(ids, self.past == 0),
                &sizes,
                Some(wanted.as_slice()),
            )?,
            (None, Device::Cpu(weights)) => {
                let Generator { decode, host_states, .. } = self.generator;
                step_cpu(decode, weights, host_states, &self.inputs(ids, true), sizes)?
            }
            (None, Device::Gpu(_)) => {
                return Err(Error::Argument("the decoder has no session".to_owned()));
            }
        };
        self.past += tokens;
        Ok(wanted.and_then(|name| outputs.remove(name)))
    }

    /// The ids, and with `all` what stays the same for the whole generation.
    fn inputs<'t>(&'t self, ids: &'t Tensor, all: bool) -> Vec<(&'t str, &'t Tensor)> {
        let fixed = self.fixed.iter().filter(|_| all).map(|(name, t)| (*name, t));
        fixed.chain([("input_ids", ids)]).collect()
    }

    /// The prompt's tokens from `first` on, at most a chunk.
    fn prompt_chunk(&self, first: usize) -> Result<Tensor> {
        let end = self.prompt_tokens.min(first + self.chunk);
        let rows = self.prompt.chunks_exact(self.prompt_tokens);
        let ids = rows.flat_map(|row| row[first..end].iter().copied()).collect();
        Tensor::u32([self.size.batch, end - first], ids)
    }

    /// All of the prompt but its last chunk.
    fn prefill(&mut self) -> Result<()> {
        while self.past + self.chunk < self.prompt_tokens {
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
        let graph = &self.generator.decode;
        if rows.iter().enumerate().all(|(to, &from)| to == from) {
            return Ok(());
        }
        let sizes = self.sizes(graph, 1);
        let Some(engine) = self.engine.as_mut() else {
            return self.generator.host_states.permute(graph, rows);
        };
        let gpu = engine.decode.gpu();
        if engine.scratch.is_none() {
            let capacity = engine.decode.plan().capacity;
            let mut largest = 0;
            for (_, _, meta) in graph.written_states() {
                largest = largest.max(meta.eval(&capacity)?.bytes());
            }
            engine.scratch = Some(gpu.buffer("state exchange", largest)?);
        }
        match &engine.scratch {
            Some(scratch) => engine.states.permute(gpu, scratch, graph, rows, &sizes),
            None => Ok(()),
        }
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
        if self.engine.is_none() {
            return self.run_on_host(&first, room, ids);
        }
        let mut next = self.sizes(&self.generator.decode, first.shape().last());
        let inputs = self.inputs(&first, self.past == 0);
        let sent = inputs.into_iter().map(|(n, t)| (n.to_owned(), t.clone())).collect::<Vec<_>>();
        let Some(engine) = self.engine.as_mut() else { return Ok(AheadStats::default()) };
        let sent: Vec<_> = sent.iter().map(|(n, t)| (n.as_str(), t)).collect();
        engine.decode.write(&sent, &next)?;
        let (session, ahead) = (&engine.decode, &mut engine.ahead);
        let (mut submitted, mut taken, mut stopped) = (0, 0, false);
        self.past += first.shape().last();
        while taken < room && !stopped {
            if submitted < room && !ahead.is_full() {
                ahead.submit(session, &next)?;
                submitted += 1;
                let names = [("tokens", 1), ("past", self.past + submitted - 1)];
                for (name, value) in names {
                    if let Some(sym) = self.generator.decode.find_symbol(name) {
                        next.set(sym, value);
                    }
                }
                continue;
            }
            let Some(row) = ahead.take(session, &next)? else { break };
            taken += 1;
            stopped = ids(&row).is_break();
        }
        // Steps past the end were computed for nothing; their buffers must come back.
        while ahead.take(session, &next)?.is_some() {}
        self.past += submitted - 1;
        Ok(AheadStats { steps: submitted - 1, deepest: ahead.deepest() })
    }

    /// One step that appends an id to every sequence, with the time of every node on the
    /// device's own clock. Errors on the CPU path, which has none.
    pub fn profile(&mut self, ids: &[u32]) -> Result<(Vec<NodeTime>, Clock)> {
        let ids = Tensor::u32([self.size.batch, 1], ids.to_vec())?;
        let sizes = self.sizes(&self.generator.decode, 1);
        let Some(engine) = &*self.engine else {
            return Err(Error::Argument("the CPU path has no device clock to profile".to_owned()));
        };
        let times = engine.decode.profile_step(&[("input_ids", &ids)], &sizes)?;
        self.past += 1;
        Ok(times)
    }

    fn run_on_host(
        &mut self,
        first: &Tensor,
        room: usize,
        mut ids: impl FnMut(&[u32]) -> ControlFlow<()>,
    ) -> Result<AheadStats> {
        let missing = || Error::tensor(NEXT_TOKEN, "was not computed");
        let mut next = self.step(first, Some(NEXT_TOKEN))?.ok_or_else(missing)?;
        for step in 0..room {
            if ids(next.as_u32()?).is_break() || step + 1 == room {
                return Ok(AheadStats { steps: step, deepest: 1 });
            }
            let tokens = next.reshape([self.size.batch, 1])?;
            next = self.step(&tokens, Some(NEXT_TOKEN))?.ok_or_else(missing)?;
        }
        Ok(AheadStats::default())
    }
}
