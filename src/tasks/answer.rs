//! Extractive question answering: the stretch of a context that answers a question.

use std::ops::ControlFlow;
use std::path::Path;

use super::texts::{
    InputText, Step, TaskOptions, TextModel, characters, go_on, text_model_accessors,
};
use crate::engine::Device;
use crate::error::{Error, Result};
use crate::models::{Class, Outputs};
use crate::text::{Encoding, Window};

/// What answers may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerOptions {
    /// How many answers to give, the likeliest first.
    pub top_k: usize,
    /// The longest answer in tokens.
    pub max_tokens: usize,
}

impl Default for AnswerOptions {
    fn default() -> Self {
        Self { top_k: 1, max_tokens: 15 }
    }
}

/// A stretch of the context.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its text.
    pub answer: String,
    /// Its first character (code point) in the context.
    pub start: usize,
    /// The character behind its last one.
    pub end: usize,
    /// Probability that an answer starts at its first token, times that it ends at its last
    /// one; both over the tokens of the context.
    pub score: f64,
}

/// Answers questions from contexts of any length.
///
/// ```no_run
/// use tilewright::engine::Device;
/// use tilewright::tasks::{AnswerOptions, Answerer, TaskOptions};
///
/// let options = TaskOptions::default();
/// let model = Answerer::open("models/distilbert-squad", Device::cpu(), &options)?;
/// let question = ("Who lives in Bern?", "Anna Schmidt lives in Bern, Jo in Rome.");
/// let answers = model.answer(&[question], AnswerOptions::default())?;
/// println!("{} ({:.3})", answers[0][0].answer, answers[0][0].score);
/// # Ok::<(), tilewright::Error>(())
/// ```
pub struct Answerer {
    model: TextModel,
}

/// A token of the context in one window.
#[derive(Clone, Copy)]
struct Token {
    /// Its place in the whole encoding.
    index: usize,
    start: f64,
    end: f64,
}

/// A span of tokens with the sum of its logits.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    last: usize,
    logit: f64,
}

/// The text of a pair that holds the context.
const CONTEXT: usize = 1;

impl Answerer {
    /// Opens a model folder with a question-answering head, or such a head on a trunk.
    pub fn open(folder: impl AsRef<Path>, device: Device, options: &TaskOptions) -> Result<Self> {
        let outputs = Outputs::Class { hidden_states: false };
        let class = Class::QuestionAnswering;
        Ok(Self { model: TextModel::open(folder.as_ref(), device, options, outputs, class)? })
    }

    text_model_accessors!();

    /// Answers to every (question, context), in their order. A context longer than the model
    /// takes is read in windows that overlap.
    pub fn answer<S: AsRef<str>>(
        &self,
        questions: &[(S, S)],
        options: AnswerOptions,
    ) -> Result<Vec<Vec<Answer>>> {
        let questions: Vec<_> = questions.iter().map(|(q, c)| (q.as_ref(), c.as_ref())).collect();
        self.answer_with(&questions, options, &mut go_on)
    }

    /// The same with a callback, which may stop it with [`Error::Cancelled`].
    ///
    /// Errors name a question or context that holds no token, or a question so long that it
    /// leaves no room for the context.
    pub fn answer_with(
        &self,
        questions: &[(&str, &str)],
        options: AnswerOptions,
        step: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Answer>>> {
        if options.top_k == 0 || options.max_tokens == 0 {
            let message = "at least 1 answer of at least 1 token must be asked for";
            return Err(Error::Argument(message.to_owned()));
        }
        let texts: Vec<_> = questions.iter().map(|&pair| InputText::from(pair)).collect();
        let encodings = self.model.encode(&texts, step, |index, encoding| {
            for (sequence, what) in ["question", "context"].into_iter().enumerate() {
                if encoding.count(sequence) == 0 {
                    let message = format!("{what} {} holds no token", index + 1);
                    return Err(Error::Argument(message));
                }
            }
            Ok(encoding)
        })?;
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        for (question, encoding) in encodings.iter().enumerate() {
            for Window { encoding, indices } in encoding.windows(CONTEXT, self.model.max_tokens)? {
                rows.push(encoding);
                places.push((question, indices));
            }
        }
        let mut read: Vec<Vec<Vec<Token>>> = questions.iter().map(|_| Vec::new()).collect();
        self.model.run(&rows, None, step, &mut |row, result| {
            let (question, indices) = &places[row];
            let (starts, ends) = (result.get("start_logits")?, result.get("end_logits")?);
            let of_context = |i: &usize| rows[row].sequences[*i] == Some(CONTEXT);
            let token = |i: usize| Token {
                index: indices[i],
                start: starts[i].into(),
                end: ends[i].into(),
            };
            read[*question].push((0..indices.len()).filter(of_context).map(token).collect());
            Ok(())
        })?;
        let all = read.iter().zip(&encodings).zip(questions);
        Ok(all.map(|((w, encoding), (_, text))| best(w, encoding, text, options)).collect())
    }
}

/// The likeliest spans of all windows, each once.
fn best(
    windows: &[Vec<Token>],
    encoding: &Encoding,
    context: &str,
    options: AnswerOptions,
) -> Vec<Answer> {
    let tokens = || windows.iter().flatten();
    let starts = log_sum_exp(tokens().map(|t| t.start));
    let ends = log_sum_exp(tokens().map(|t| t.end));
    let mut spans: Vec<Span> = Vec::new();
    for window in windows {
        for (i, first) in window.iter().enumerate() {
            let lasts = window[i..].iter().take(options.max_tokens);
            spans.extend(lasts.map(|last| Span {
                first: first.index,
                last: last.index,
                logit: first.start + last.end,
            }));
        }
    }
    // The sort keeps the order of equals: the first span of the text comes first.
    spans.sort_by(|a, b| b.logit.total_cmp(&a.logit));
    let mut answers: Vec<Answer> = Vec::new();
    for span in spans {
        let (start, end) =
            trimmed(context, encoding.offsets[span.first].0, encoding.offsets[span.last].1);
        // Windows overlap, and several tokens may be of one character.
        if start >= end || answers.iter().any(|a| (a.start, a.end) == (start, end)) {
            continue;
        }
        let score = (span.logit - starts - ends).exp();
        answers.push(Answer { answer: characters(context, start, end), start, end, score });
        if answers.len() == options.top_k {
            break;
        }
    }
    answers
}

/// Characters `start..end` without white space around them.
fn trimmed(text: &str, start: usize, end: usize) -> (usize, usize) {
    let stretch = characters(text, start, end);
    let before = stretch.chars().take_while(|c| c.is_whitespace()).count();
    let after = stretch.chars().rev().take_while(|c| c.is_whitespace()).count();
    let end = end.saturating_sub(after);
    ((start + before).min(end), end)
}

/// `ln(sum(exp(x)))`.
fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = values.clone().fold(f64::MIN, f64::max);
    top + values.map(|v| (v - top).exp()).sum::<f64>().ln()
}
