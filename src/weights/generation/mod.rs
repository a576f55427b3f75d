//! How text is generated: `generation_config.json` with Hugging Face's keys and defaults.
//!
//! Names, defaults and meanings follow `GenerationConfig` of transformers 5.

mod keys;
mod read;
mod tests;

use std::ops::RangeInclusive;

use crate::error::{Error, Result};

/// New tokens when neither `max_new_tokens` nor `max_length` is given, as in transformers.
pub const DEFAULT_NEW_TOKENS: usize = 20;

const LENGTH: RangeInclusive<usize> = 0..=1 << 31;
const COUNT: RangeInclusive<usize> = 1..=1 << 31;
const TOP_K: RangeInclusive<usize> = 0..=1 << 31;
const BEAMS: RangeInclusive<usize> = 1..=1024;
const TEMPERATURE: RangeInclusive<f32> = 0.0..=1e6;
const PROBABILITY: RangeInclusive<f32> = 0.0..=1.0;
const PENALTY: RangeInclusive<f32> = 1e-3..=1e3;
const LENGTH_PENALTY: RangeInclusive<f32> = -100.0..=100.0;

/// When beam search stops once as many hypotheses are finished as there are beams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// `false`: when the best running beam, at its present length, cannot beat the worst
    /// finished hypothesis.
    #[default]
    Heuristic,
    /// `true`: at once.
    Yes,
    /// `"never"`: when no running beam can beat it at any length still possible.
    Never,
}

/// Which of the three ways of choosing tokens a configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoding {
    /// The token of the highest score each time.
    Greedy,
    /// A token drawn from the distribution that temperature, top-k, top-p and min-p leave.
    Sample,
    /// The best of several sequences kept at once.
    Beam,
}

/// How text is generated. The fields bear Hugging Face's names; [`Default`] has its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// The most tokens generated; goes before `max_length`.
    pub max_new_tokens: Option<usize>,
    /// The most tokens of prompt (or decoder prompt) and generated text together.
    pub max_length: Option<usize>,
    /// End tokens are banned before this many new tokens; goes before `min_length`.
    pub min_new_tokens: Option<usize>,
    /// End tokens are banned below this length, (decoder) prompt included.
    pub min_length: usize,
    /// Draw tokens at random instead of taking the best.
    pub do_sample: bool,
    /// Divides the logits before sampling; 0 is greedy.
    pub temperature: f32,
    /// Sample among this many best tokens only; 0 for all.
    pub top_k: usize,
    /// Sample among the fewest best tokens whose probabilities reach this sum; 1 for all.
    pub top_p: f32,
    /// Sample among tokens at least this times as probable as the best; 0 for all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens already there; 1 for none.
    pub repetition_penalty: f32,
    /// No sequence of this many tokens occurs twice; 0 for no such rule.
    pub no_repeat_ngram_size: usize,
    /// Beams of beam search; 1 for none.
    pub num_beams: usize,
    /// Hypotheses are compared by log probability / length^this.
    pub length_penalty: f32,
    /// When beam search stops.
    pub early_stopping: EarlyStopping,
    /// Tokens that end the text; they belong to the ids generated.
    pub eos_token_id: Vec<u32>,
    /// Pads rows of a batch.
    pub pad_token_id: Option<u32>,
    /// Begins a text.
    pub bos_token_id: Option<u32>,
    /// Begins the decoder's text in an encoder-decoder.
    pub decoder_start_token_id: Option<u32>,
    /// The token after a prompt of one token.
    pub forced_bos_token_id: Option<u32>,
    /// The only tokens allowed at the last position that the length limit leaves.
    pub forced_eos_token_id: Vec<u32>,
    /// Sequences of tokens that never occur.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Tokens that never occur.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that do not begin the text.
    pub begin_suppress_tokens: Vec<u32>,
    /// Texts that end the generation where they appear.
    pub stop_strings: Vec<String>,
    /// Scores are made log probabilities again after all other processing.
    pub renormalize_logits: bool,
    /// NaN scores become 0 and infinite ones the largest finite.
    pub remove_invalid_values: bool,
    /// What the user should know about the configuration, one line each.
    pub notices: Vec<String>,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            max_new_tokens: None,
            max_length: None,
            min_new_tokens: None,
            min_length: 0,
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::Heuristic,
            eos_token_id: Vec::new(),
            pad_token_id: None,
            bos_token_id: None,
            decoder_start_token_id: None,
            forced_bos_token_id: None,
            forced_eos_token_id: Vec::new(),
            bad_words_ids: Vec::new(),
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
            stop_strings: Vec::new(),
            renormalize_logits: false,
            remove_invalid_values: false,
            notices: Vec::new(),
        }
    }
}

impl GenerationConfig {
    /// How tokens are chosen, after a check of every field that may have been set by hand.
    ///
    /// Errors: a number out of range or NaN; beam search with sampling, which is not supported.
    pub fn decoding(&self) -> Result<Decoding> {
        self.check()?;
        match (self.num_beams > 1, self.do_sample && self.temperature > 0.0) {
            (true, true) => Err(Error::Argument(format!(
                "`do_sample` with `num_beams` {}: sampling within beam search is not supported; expected one of the two",
                self.num_beams
            ))),
            (true, false) => Ok(Decoding::Beam),
            (false, true) => Ok(Decoding::Sample),
            (false, false) => Ok(Decoding::Greedy),
        }
    }

    fn check(&self) -> Result<()> {
        let numbers = [
            ("temperature", self.temperature, TEMPERATURE),
            ("top_p", self.top_p, PROBABILITY),
            ("min_p", self.min_p, PROBABILITY),
            ("repetition_penalty", self.repetition_penalty, PENALTY),
            ("length_penalty", self.length_penalty, LENGTH_PENALTY),
        ];
        for (name, value, range) in numbers {
            if !range.contains(&value) {
                return Err(Error::Argument(format!(
                    "`{name}` is {value:?}; expected a number from {:?} to {:?}",
                    range.start(),
                    range.end()
                )));
            }
        }
        let counts = [
            ("max_new_tokens", self.max_new_tokens.unwrap_or(1), COUNT),
            ("max_length", self.max_length.unwrap_or(1), COUNT),
            ("min_new_tokens", self.min_new_tokens.unwrap_or(0), LENGTH),
            ("min_length", self.min_length, LENGTH),
            ("top_k", self.top_k, TOP_K),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size, LENGTH),
            ("num_beams", self.num_beams, BEAMS),
        ];
        for (name, value, range) in counts {
            if !range.contains(&value) {
                return Err(Error::Argument(format!(
                    "`{name}` is {value}; expected a whole number from {} to {}",
                    range.start(),
                    range.end()
                )));
            }
        }
        Ok(())
    }

    /// The length, in tokens, at which generation stops after a prompt of `prompt` tokens. In an
    /// encoder-decoder the prompt is the decoder's, which is one token.
    ///
    /// An error when `max_length` leaves no room for a new token.
    pub fn max_length_after(&self, prompt: usize) -> Result<usize> {
        match (self.max_new_tokens, self.max_length) {
            (Some(new), _) => Ok(prompt.saturating_add(new)),
            (None, None) => Ok(prompt.saturating_add(DEFAULT_NEW_TOKENS)),
            (None, Some(max)) if prompt < max => Ok(max),
            (None, Some(max)) => Err(Error::Argument(format!(
                "the prompt has {prompt} tokens and `max_length` is {max}; expected room for at least one more (`max_new_tokens` counts new tokens only)"
            ))),
        }
    }

    /// The length below which end tokens are banned after a prompt of `prompt` tokens.
    pub fn min_length_after(&self, prompt: usize) -> usize {
        match self.min_new_tokens {
            Some(new) => prompt.saturating_add(new),
            None => self.min_length,
        }
    }

    /// The token that begins the decoder's text: `decoder_start_token_id`, else `bos_token_id`.
    ///
    /// An error when there is neither.
    pub fn decoder_start(&self) -> Result<u32> {
        self.decoder_start_token_id.or(self.bos_token_id).ok_or_else(|| {
            Error::Argument(
                "the model has neither `decoder_start_token_id` nor `bos_token_id`; one of them is expected in generation_config.json or config.json".into(),
            )
        })
    }

    /// The token that pads a batch: `pad_token_id`, else the first end token, else 0.
    pub fn pad(&self) -> u32 {
        self.pad_token_id.or(self.eos_token_id.first().copied()).unwrap_or(0)
    }
}
