//! How long a generation took.

use std::time::Instant;

/// How long a call took, and how the device was driven.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// From the call to the first new token of all prompts, in milliseconds.
    pub prefill_ms: f64,
    /// New tokens per second after the first, of all prompts together; 0 if none followed.
    pub decode_tokens_per_s: f64,
    /// Decoding steps after the first token.
    pub steps: usize,
    /// The most steps that were on their way at once; 1 when the host chose the tokens.
    pub steps_ahead: usize,
}

impl Timing {
    /// Both one after the other; rates count by the steps they held for.
    #[must_use]
    pub fn then(self, second: Self) -> Self {
        let steps = self.steps + second.steps;
        let rates = [self, second].map(|t| t.steps as f64 * t.decode_tokens_per_s);
        Self {
            prefill_ms: self.prefill_ms + second.prefill_ms,
            decode_tokens_per_s: (rates[0] + rates[1]) / steps.max(1) as f64,
            steps,
            steps_ahead: self.steps_ahead.max(second.steps_ahead),
        }
    }
}

/// Measures from the call to the first token, and from there on.
pub(super) struct Clock {
    start: Instant,
    first: Option<Instant>,
    tokens: usize,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Instant::now(), first: None, tokens: 0 }
    }

    /// Counts the new tokens of a step.
    pub(super) fn tick(&mut self, tokens: usize) {
        match self.first {
            None => self.first = Some(Instant::now()),
            Some(_) => self.tokens += tokens,
        }
    }

    pub(super) fn timing(&self, steps: usize, steps_ahead: usize) -> Timing {
        let first = self.first.unwrap_or(self.start);
        let seconds = first.elapsed().as_secs_f64();
        Timing {
            prefill_ms: first.duration_since(self.start).as_secs_f64() * 1e3,
            decode_tokens_per_s: if self.tokens > 0 { self.tokens as f64 / seconds } else { 0.0 },
            steps,
            steps_ahead,
        }
    }
}
