//! Sequence classification: one label, or several, for a text or a pair of texts.

use std::ops::ControlFlow;
use std::path::Path;

use super::texts::{
    InputText, Step, TaskOptions, TextModel, go_on, softmax, text_model_accessors, top,
};
use crate::engine::Device;
use crate::error::Result;
use crate::models::{Class, Outputs};
use crate::weights::Config;

/// How logits become scores, by the configuration's `problem_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scoring {
    /// Of several labels one holds: softmax.
    Single,
    /// Each label holds or not: a sigmoid each.
    Multi,
    /// The logits themselves.
    Regression,
}

/// A label with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Its name.
    pub label: String,
    /// Its probability; of a regression its value.
    pub score: f64,
}

/// One text's labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// All labels, the likeliest first; none of a text that holds no token.
    pub labels: Vec<Label>,
    /// Tokens that were cut off because the text is longer than the model takes.
    pub truncated: usize,
}

/// Labels texts, by sentiment for example.
///
/// ```no_run
/// use tilewright::engine::Device;
/// use tilewright::tasks::{Classifier, TaskOptions};
///
/// let head = Some("assets/models/reader/heads/sentiment".into());
/// let options = TaskOptions { head, ..TaskOptions::default() };
/// let classifier = Classifier::open("assets/models/reader", Device::cpu(), &options)?;
/// for result in classifier.classify(&["The soup was cold.", "What a lovely view!"])? {
///     println!("{} {:.3}", result.labels[0].label, result.labels[0].score);
/// }
/// # Ok::<(), tilewright::Error>(())
/// ```
pub struct Classifier {
    model: TextModel,
    scoring: Scoring,
}

impl Classifier {
    /// Opens a model folder with a sequence-classification head, or such a head on a trunk.
    pub fn open(folder: impl AsRef<Path>, device: Device, options: &TaskOptions) -> Result<Self> {
        let folder = folder.as_ref();
        let outputs = Outputs::Class { hidden_states: false };
        let class = Class::SequenceClassification;
        let model = TextModel::open(folder, device, options, outputs, class)?;
        let config = Config::open(options.head.as_deref().unwrap_or(folder))?;
        let scoring = scoring(&config, model.info.labels.len())?;
        Ok(Self { model, scoring })
    }

    text_model_accessors!();

    /// Labels of texts, in their order.
    pub fn classify<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Classification>> {
        let texts: Vec<_> = texts.iter().map(|t| InputText::from(t.as_ref())).collect();
        self.classify_with(&texts, &mut go_on)
    }

    /// Labels of pairs of texts.
    pub fn classify_pairs<S: AsRef<str>>(&self, pairs: &[(S, S)]) -> Result<Vec<Classification>> {
        let texts: Vec<_> = pairs.iter().map(|(a, b)| (a.as_ref(), b.as_ref()).into()).collect();
        self.classify_with(&texts, &mut go_on)
    }

    /// The same with a callback, which may stop it with [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn classify_with(
        &self,
        texts: &[InputText<'_>],
        step: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Classification>> {
        let encoded = self.model.encode(texts, step, |_, mut encoding| {
            let truncated = encoding.truncate(self.model.max_tokens)?;
            Ok((encoding, truncated))
        })?;
        let (mut rows, mut owners, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (encoding, truncated)) in encoded.into_iter().enumerate() {
            out.push(Classification { labels: Vec::new(), truncated });
            if encoding.count(0) + encoding.count(1) > 0 {
                rows.push(encoding);
                owners.push(index);
            }
        }
        self.model.run(&rows, None, step, &mut |row, results| {
            out[owners[row]].labels = self.labels(results.get("logits")?);
            Ok(())
        })?;
        Ok(out)
    }

    fn labels(&self, logits: &[f32]) -> Vec<Label> {
        let scores: Vec<f64> = match self.scoring {
            Scoring::Single => softmax(logits),
            Scoring::Multi => logits.iter().map(|&x| sigmoid(x.into())).collect(),
            Scoring::Regression => logits.iter().map(|&x| x.into()).collect(),
        };
        let names = &self.model.info.labels;
        let name = |i: usize| names.get(i).cloned().unwrap_or_default();
        let label = |i: usize| Label { label: name(i), score: scores[i] };
        top(&scores, scores.len()).into_iter().map(label).collect()
    }
}

/// `problem_type`, or what Hugging Face's pipeline does without one: a single label is a yes or
/// no, several exclude each other.
fn scoring(config: &Config, labels: usize) -> Result<Scoring> {
    let field = "problem_type";
    match config.opt_str(field)? {
        Some("single_label_classification") => Ok(Scoring::Single),
        Some("multi_label_classification") => Ok(Scoring::Multi),
        Some("regression") => Ok(Scoring::Regression),
        Some(other) => {
            let expected = "single_label_classification, multi_label_classification or regression";
            Err(config.error(field, format!("`{other}`"), expected))
        }
        None if labels == 1 => Ok(Scoring::Multi),
        None => Ok(Scoring::Single),
    }
}

/// `1 / (1 + exp(-x))` without overflow.
fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}
