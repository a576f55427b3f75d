//! Text in, answer out.

mod answer;
mod attend;
mod classify;
pub mod decoding;
mod embed;
mod entities;
mod fill_mask;
mod generate;
mod rows;
mod score;
mod tag;
mod texts;
mod timing;

pub use answer::{Answer, AnswerOptions, Answerer};
pub use attend::{Attended, Attender, Text, Token};
pub use classify::{Classification, Classifier, Label};
pub use embed::{EmbedOptions, Embedder, Embedding};
pub use entities::{Aggregation, Entity};
pub use fill_mask::{Candidate, FillMask, Filled};
pub use generate::{Event, GenerateOptions, TextGenerator};
pub use rows::Generation;
pub use score::{Objective, Score, ScoreOptions, Scorer, TokenScore};
pub use tag::Tagger;
pub use texts::{InputText, Step, TaskOptions};
pub use timing::Timing;
