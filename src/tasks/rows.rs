//! One text being generated: its ids, what of its text can be shown, and whether it has ended.

use super::decoding::{FinishReason, StopStrings};
use crate::error::Result;
use crate::text::{TextStream, Tokenizer};
use crate::weights::GenerationConfig;

/// What one prompt became.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The new text, without special tokens and without a stop string.
    pub text: String,
    /// The new ids, the end token included where there is one.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Log probability / length^length_penalty, of beam search.
    pub score: Option<f32>,
}

/// A prompt's continuation under way.
pub(super) struct Row<'a> {
    tokenizer: &'a Tokenizer,
    stream: TextStream<'a>,
    /// All that came out of the stream, stop strings included.
    streamed: String,
    stops: StopStrings,
    eos: &'a [u32],
    prompt: usize,
    max_length: usize,
    ids: Vec<u32>,
    text: String,
    finish: Option<FinishReason>,
}

impl<'a> Row<'a> {
    pub(super) fn new(
        tokenizer: &'a Tokenizer,
        config: &'a GenerationConfig,
        prompt: &[u32],
    ) -> Result<Self> {
        Ok(Self {
            tokenizer,
            stream: tokenizer.stream(true).after(prompt)?,
            streamed: String::new(),
            stops: StopStrings::new(&config.stop_strings)?,
            eos: &config.eos_token_id,
            prompt: prompt.len(),
            max_length: config.max_length_after(prompt.len())?,
            ids: Vec::new(),
            text: String::new(),
            finish: None,
        })
    }

    /// Why it has ended, if it has.
    pub(super) fn finish(&self) -> Option<FinishReason> {
        self.finish
    }

    /// Takes the next id and gives the text that can be shown; nothing once it has ended.
    pub(super) fn push(&mut self, id: u32) -> Result<String> {
        if self.finish.is_some() {
            return Ok(String::new());
        }
        self.ids.push(id);
        let piece = self.stream.push(id)?;
        self.streamed.push_str(&piece);
        let shown = self.stops.push(&piece);
        self.text.push_str(&shown.text);
        let length = self.prompt + self.ids.len();
        self.finish = match shown.stopped {
            true => Some(FinishReason::Stop),
            false => FinishReason::of(id, length, self.eos, self.max_length),
        };
        Ok(shown.text)
    }

    /// The result, and what of its text was not shown yet.
    pub(super) fn end(mut self) -> Result<(Generation, String)> {
        let mut rest = String::new();
        let held = self.stream.finish()?;
        self.streamed.push_str(&held);
        if self.finish != Some(FinishReason::Stop) {
            let last = self.stops.push(&held);
            rest.push_str(&last.text);
            if last.stopped {
                self.finish = Some(FinishReason::Stop);
            } else {
                rest.push_str(&self.stops.finish());
            }
            self.text.push_str(&rest);
        }
        // On its own the text has no space that parts it from the prompt, in the vocabularies
        // that mark words by one.
        let alone = self.tokenizer.decode(&self.ids, true)?;
        let lead =
            if self.streamed.ends_with(&alone) { self.streamed.len() - alone.len() } else { 0 };
        let generation = Generation {
            text: self.text.get(lead..).unwrap_or_default().to_owned(),
            ids: self.ids,
            // Ended from outside, or by the model's context: its length was the limit.
            finish: self.finish.unwrap_or(FinishReason::Length),
            prompt_tokens: self.prompt,
            score: None,
        };
        Ok((generation, rest))
    }
}
