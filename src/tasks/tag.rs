//! Token classification: entities, or word classes, with their places in the text.

use std::ops::ControlFlow;
use std::path::Path;

use super::entities::{Aggregation, Entity, Piece, Scheme, piece_labels};
use super::texts::{InputText, Step, TaskOptions, TextModel, go_on, softmax, text_model_accessors};
use crate::engine::Device;
use crate::error::Result;
use crate::models::{Class, Outputs};
use crate::text::{Encoding, Window};

/// Finds entities in texts of any length.
///
/// ```no_run
/// use tilewright::engine::Device;
/// use tilewright::tasks::{Aggregation, Tagger, TaskOptions};
///
/// let head = Some("assets/models/reader/heads/entities".into());
/// let options = TaskOptions { head, ..TaskOptions::default() };
/// let tagger = Tagger::open("assets/models/reader", Device::cpu(), &options)?;
/// for entity in &tagger.tag(&["Anna Schmidt lives in Bern."], Aggregation::First)?[0] {
///     println!("{} {}..{} {}", entity.label, entity.start, entity.end, entity.text);
/// }
/// # Ok::<(), tilewright::Error>(())
/// ```
pub struct Tagger {
    model: TextModel,
    scheme: Scheme,
}

/// A text's tokens as far as they have been read.
struct Reading {
    encoding: Encoding,
    /// Of each token: how many tokens stood on its nearer side in the window that was read, plus
    /// one, and its labels' probabilities there.
    best: Vec<(usize, Vec<f64>)>,
}

impl Tagger {
    /// Opens a model folder with a token-classification head, or such a head on a trunk.
    pub fn open(folder: impl AsRef<Path>, device: Device, options: &TaskOptions) -> Result<Self> {
        let outputs = Outputs::Class { hidden_states: false };
        let class = Class::TokenClassification;
        let model = TextModel::open(folder.as_ref(), device, options, outputs, class)?;
        let scheme = Scheme::of(&model.info.labels);
        Ok(Self { model, scheme })
    }

    text_model_accessors!();

    /// Entities of every text, in their order. A text longer than the model takes is read in
    /// windows that overlap.
    pub fn tag<S: AsRef<str>>(&self, texts: &[S], mode: Aggregation) -> Result<Vec<Vec<Entity>>> {
        let texts: Vec<_> = texts.iter().map(AsRef::as_ref).collect();
        self.tag_with(&texts, mode, &mut go_on)
    }

    /// The same with a callback, which may stop it with [`Error::Cancelled`](crate::Error).
    pub fn tag_with(
        &self,
        texts: &[&str],
        mode: Aggregation,
        step: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Entity>>> {
        let pairs: Vec<_> = texts.iter().map(|&t| InputText::from(t)).collect();
        let encodings = self.model.encode(&pairs, step, |_, encoding| Ok(encoding))?;
        let mut rows = Vec::new();
        let mut places = Vec::new();
        for (text, encoding) in encodings.iter().enumerate() {
            // A text without tokens has no entity, and may not even have a row.
            if encoding.count(0) > 0 {
                for Window { encoding, indices } in encoding.windows(0, self.model.max_tokens)? {
                    rows.push(encoding);
                    places.push((text, indices));
                }
            }
        }
        let unread = |encoding: Encoding| {
            let best = vec![(0, Vec::new()); encoding.len()];
            Reading { encoding, best }
        };
        let mut readings: Vec<_> = encodings.into_iter().map(unread).collect();
        let labels = self.model.info.labels.len();
        self.model.run(&rows, None, step, &mut |row, result| {
            let (text, indices) = &places[row];
            let logits = result.get("logits")?.chunks_exact(labels);
            for (i, (&index, logits)) in indices.iter().zip(logits).enumerate() {
                let around = 1 + i.min(indices.len() - 1 - i);
                let best = &mut readings[*text].best[index];
                if around > best.0 {
                    *best = (around, softmax(logits));
                }
            }
            Ok(())
        })?;
        let entities = |(reading, text): (Reading, &&str)| {
            let chars: Vec<char> = text.chars().collect();
            let pieces = reading.pieces();
            match mode {
                Aggregation::None => piece_labels(&chars, &pieces, &self.model.info.labels),
                _ => self.scheme.entities(&chars, &pieces, mode),
            }
        };
        Ok(readings.into_iter().zip(texts).map(entities).collect())
    }
}

impl Reading {
    /// The text's own tokens.
    fn pieces(self) -> Vec<Piece> {
        let Encoding { sequences, words, offsets, .. } = self.encoding;
        let all = self.best.into_iter().zip(sequences.into_iter().zip(words).zip(offsets));
        all.filter(|(_, ((sequence, _), _))| sequence.is_some())
            .map(|((_, scores), ((_, word), (start, end)))| Piece { word, start, end, scores })
            .collect()
    }
}
