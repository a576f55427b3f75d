//! What the encoder tasks share: a model with its tokenizer, and many texts through it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::engine::{Device, Runner, by_name, model_inputs};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::graph::{Progress, Size};
use crate::models::{self, BuildOptions, Class, Model, ModelInfo, Outputs, POSITIONS};
use crate::tensor::Tensor;
use crate::text::{Batch, Encoding, Tokenizer};

/// How an encoder is opened for a task.
#[derive(Clone, Debug)]
pub struct TaskOptions {
    /// Folder of the head, where the model's folder is only its trunk.
    pub head: Option<PathBuf>,
    /// Storage of weights; `None` keeps the file's.
    pub dtype: Option<Format>,
    /// Most texts in one forward pass.
    pub batch: usize,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self { head: None, dtype: None, batch: 32 }
    }
}

/// One text, or two that are read together, such as a premise and a hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputText<'a> {
    /// The text.
    pub first: &'a str,
    /// The second one.
    pub second: Option<&'a str>,
}

impl<'a> From<&'a str> for InputText<'a> {
    fn from(first: &'a str) -> Self {
        Self { first, second: None }
    }
}

impl<'a> From<(&'a str, &'a str)> for InputText<'a> {
    fn from((first, second): (&'a str, &'a str)) -> Self {
        Self { first, second: Some(second) }
    }
}

/// How far a task has come; given to a callback that may ask to stop.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Weights are loaded.
    Loading(Progress<'a>),
    /// So many forward passes' rows are done; a long text has several.
    Done {
        /// Rows done.
        rows: usize,
        /// Rows to do, 0 while texts are tokenised.
        of: usize,
    },
}

/// A callback that lets everything go on.
pub(super) fn go_on(_: Step<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// [`Error::Cancelled`] when the callback asked to stop.
fn go_on_unless(answer: ControlFlow<()>) -> Result<()> {
    if answer.is_break() { Err(Error::Cancelled) } else { Ok(()) }
}

/// Tokens of one forward pass at most, padding included: bounds the memory of a batch of long
/// texts, and is plenty to fill a GPU.
const TOKENS_PER_PASS: usize = 8192;

/// Bytes of one forward pass's logits over the vocabulary at most.
const LOGITS_PER_PASS: usize = 64 << 20;

/// Texts tokenised between two looks at whether to go on.
const TEXTS_PER_CHUNK: usize = 1024;

/// A model that takes texts, and where it runs.
pub(super) struct TextModel {
    pub tokenizer: Tokenizer,
    pub runner: Runner,
    pub info: ModelInfo,
    /// Longest row in tokens.
    pub max_tokens: usize,
    pub notices: Vec<String>,
    batch: usize,
}

/// One row's results of a forward pass.
pub(super) struct Row<'a> {
    outputs: &'a BTreeMap<String, Tensor>,
    row: usize,
    rows: usize,
}

impl<'a> Row<'a> {
    /// The row's values of an output [batch, ..].
    pub fn get(&self, name: &str) -> Result<&'a [f32]> {
        let missing = || Error::tensor(name, "the model gave no such output");
        let values = self.outputs.get(name).ok_or_else(missing)?.as_f32()?;
        let each = values.len() / self.rows;
        Ok(&values[self.row * each..(self.row + 1) * each])
    }
}

impl TextModel {
    /// Opens a folder for a task that needs a head of class `wanted`.
    pub fn open(
        folder: &Path,
        device: Device,
        options: &TaskOptions,
        outputs: Outputs,
        wanted: Class,
    ) -> Result<Self> {
        let build = BuildOptions { dtype: options.dtype, outputs, ..BuildOptions::default() };
        let model = match &options.head {
            Some(head) => models::open_head(folder, head, &build)?,
            None => models::open(folder, &build)?,
        };
        if model.info.class != wanted {
            let (found, of) = (model.info.class, options.head.as_deref().unwrap_or(folder));
            let message = format!("holds a model of class {found:?}; this task needs {wanted:?}");
            return Err(Error::file(of, message));
        }
        Self::new(folder, model, device, options.batch)
    }

    /// Puts a built model and the tokenizer of its folder together.
    pub fn new(folder: &Path, model: Model, device: Device, batch: usize) -> Result<Self> {
        let tokenizer = Tokenizer::open(folder)?;
        tokenizer.check_vocab(model.info.vocab_size)?;
        if batch == 0 {
            return Err(Error::Argument("a batch of 0 texts; at least 1 is needed".to_owned()));
        }
        let most = model.info.max_tokens;
        Ok(Self {
            max_tokens: tokenizer.max_length().map_or(most, |limit| limit.min(most)),
            tokenizer,
            runner: Runner::new(model.graph, device)?,
            info: model.info,
            notices: model.notices,
            batch,
        })
    }

    /// Texts as tokens, special ones included, in parallel; `change` is applied to each, with
    /// its index.
    pub fn encode<T: Send>(
        &self,
        texts: &[InputText<'_>],
        step: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
        change: impl Fn(usize, Encoding) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let mut out = Vec::with_capacity(texts.len());
        for chunk in texts.chunks(TEXTS_PER_CHUNK) {
            let first = out.len();
            let encode = |(i, text): (usize, &InputText<'_>)| {
                let encoding = match text.second {
                    Some(second) => self.tokenizer.encode_pair(text.first, second, true)?,
                    None => self.tokenizer.encode(text.first, true)?,
                };
                change(first + i, encoding)
            };
            let encoded: Result<Vec<_>> = chunk.par_iter().enumerate().map(encode).collect();
            out.extend(encoded?);
            go_on_unless(step(Step::Done { rows: 0, of: 0 }))?;
        }
        Ok(out)
    }

    /// Runs rows, none of them empty, and gives each its results by index. `picks` are the
    /// tokens of each row whose logits are asked for, with [`Outputs::MaskedTokens`].
    pub fn run(
        &self,
        rows: &[Encoding],
        picks: Option<&[Vec<u32>]>,
        step: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
        each: &mut dyn FnMut(usize, Row<'_>) -> Result<()>,
    ) -> Result<()> {
        // Rows of like length go together, so that little is computed for padding.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&i| Reverse(rows[i].len()));
        let most_picks = picks.and_then(|p| p.iter().map(Vec::len).max()).unwrap_or(0).max(1);
        let logits = most_picks * self.info.vocab_size * size_of::<f32>();
        let most = if picks.is_some() { LOGITS_PER_PASS / logits } else { usize::MAX };
        let lengths: Vec<usize> = order.iter().map(|&i| rows[i].len()).collect();
        let passes = passes(&lengths, self.batch.min(most.max(1)));
        let Some(&longest) = lengths.first() else { return Ok(()) };
        let largest = passes.iter().map(Range::len).max().unwrap_or(1);
        let mut sizes = vec![(Size::Batch, largest), (Size::Tokens, longest)];
        if picks.is_some() {
            sizes.push((Size::Picks, most_picks));
        }
        let sizes = self.runner.graph().sizes(&sizes)?;
        self.runner.reserve(&sizes, &mut |progress| step(Step::Loading(progress)))?;
        for pass in passes {
            let (done, chosen) = (pass.end, &order[pass]);
            let encodings = chosen.iter().map(|&i| rows[i].clone()).collect();
            let mut inputs = self.inputs(&Batch::new(encodings, None, self.tokenizer.pad_id())?)?;
            if let Some(picks) = picks {
                let picks: Vec<&[u32]> = chosen.iter().map(|&i| picks[i].as_slice()).collect();
                // Nobody reads the logits of what fills a row.
                inputs.insert(POSITIONS.to_owned(), padded(&picks, 0)?);
            }
            let outputs = self.runner.run(&by_name(&inputs))?;
            for (row, &index) in chosen.iter().enumerate() {
                each(index, Row { outputs: &outputs, row, rows: chosen.len() })?;
            }
            go_on_unless(step(Step::Done { rows: done, of: rows.len() }))?;
        }
        Ok(())
    }

    /// A batch under the names of the model's inputs.
    fn inputs(&self, batch: &Batch) -> Result<BTreeMap<String, Tensor>> {
        let mut given = BTreeMap::from([
            ("input_ids".to_owned(), batch.input_ids.clone()),
            ("attention_mask".to_owned(), batch.attention_mask.clone()),
        ]);
        // With one segment all tokens are of it, whatever the tokenizer says of pairs.
        if self.info.type_vocab_size > 1 {
            given.insert("token_type_ids".to_owned(), batch.token_type_ids.clone());
        }
        model_inputs(&self.info, given)
    }
}

/// Ranges of rows, sorted by falling length, that go through the model together.
fn passes(lengths: &[usize], batch: usize) -> Vec<Range<usize>> {
    let mut passes = Vec::new();
    let mut start = 0;
    while let Some(&longest) = lengths.get(start) {
        let by_tokens = (TOKENS_PER_PASS / longest.max(1)).max(1);
        let end = lengths.len().min(start + batch.min(by_tokens));
        passes.push(start..end);
        start = end;
    }
    passes
}

/// Rows filled up on the right: u32 [rows, longest], the longest being 1 at least.
pub(super) fn padded<R: AsRef<[u32]>>(rows: &[R], fill: u32) -> Result<Tensor> {
    let longest = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0).max(1);
    let mut values = Vec::with_capacity(rows.len() * longest);
    for (i, row) in rows.iter().enumerate() {
        values.extend_from_slice(row.as_ref());
        values.resize((i + 1) * longest, fill);
    }
    Tensor::u32([rows.len(), longest], values)
}

/// What callers of every encoder task may ask.
macro_rules! text_model_accessors {
    () => {
        /// Sizes of the model.
        pub fn info(&self) -> &crate::models::ModelInfo {
            &self.model.info
        }

        /// The tokenizer.
        pub fn tokenizer(&self) -> &crate::text::Tokenizer {
            &self.model.tokenizer
        }

        /// Where it runs.
        pub fn device(&self) -> &crate::engine::Device {
            self.model.runner.device()
        }

        /// The most tokens that the model takes at once.
        pub fn max_tokens(&self) -> usize {
            self.model.max_tokens
        }

        /// Things the user should be told about the model folder.
        pub fn notices(&self) -> &[String] {
            &self.model.notices
        }

        /// What is wrong with the weights, one line each; complete after the first call.
        pub fn warnings(&self) -> Vec<String> {
            self.model.runner.warnings()
        }
    };
}
pub(super) use text_model_accessors;

/// Probabilities of a row of logits.
pub(super) fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let terms: Vec<f64> = logits.iter().map(|&x| (f64::from(x) - f64::from(top)).exp()).collect();
    let sum: f64 = terms.iter().sum();
    terms.iter().map(|t| t / sum).collect()
}

/// Indices of the `count` largest values, largest first; among equals the first.
pub(super) fn top(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let by_value = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]).then(a.cmp(b));
    let count = count.min(order.len());
    if count < order.len() {
        order.select_nth_unstable_by(count, by_value);
        order.truncate(count);
    }
    order.sort_unstable_by(by_value);
    order
}

/// Characters `start..end` of a text.
pub(super) fn characters(text: &str, start: usize, end: usize) -> String {
    text.chars().skip(start).take(end.saturating_sub(start)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_bounded_by_texts_and_by_tokens() {
        assert!(passes(&[], 4).is_empty());
        assert_eq!(passes(&[9, 5, 5, 2, 1], 2), [0..2, 2..4, 4..5]);
        assert_eq!(passes(&[9000, 8192, 4096, 4096, 3], 8), [0..1, 1..2, 2..4, 4..5]);
    }

    #[test]
    fn top_is_sorted_and_prefers_the_first_among_equals() {
        let values = [0.1, 0.4, 0.4, 0.1, 0.0];
        assert_eq!(top(&values, 2), [1, 2]);
        assert_eq!(top(&values, 4), [1, 2, 0, 3]);
        assert_eq!(top(&values, 99), [1, 2, 0, 3, 4]);
    }

    #[test]
    fn softmax_of_far_logits_is_finite() {
        let p = softmax(&[1e30, 1e30, -1e30]);
        assert_eq!(p, [0.5, 0.5, 0.0]);
        assert!((softmax(&[0.3, -2.0, 5.5]).iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }

    #[test]
    fn characters_are_code_points() {
        assert_eq!(characters("Привет, 😀!", 2, 4), "ив");
        assert_eq!(characters("Привет, 😀!", 8, 99), "😀!");
        assert_eq!(characters("ab", 2, 1), "");
    }
}
