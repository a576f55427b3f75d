//! Sentence embeddings: encode, pool over tokens, optionally scale to length 1.

use std::ops::ControlFlow;
use std::path::Path;

use super::texts::{InputText, Step, TextModel, text_model_accessors};
use crate::engine::Device;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::graph::Progress;
use crate::models::{self, BuildOptions, ModelInfo, Outputs};
use crate::text::Encoding;
use crate::weights::{Pooling, SentenceConfig};

/// How texts become vectors. The default follows the model folder.
#[derive(Clone, Copy, Debug)]
pub struct EmbedOptions {
    /// Pooling over tokens; `None`: what the folder's sentence-transformers files say, else mean.
    pub pooling: Option<Pooling>,
    /// Scale to length 1; `None`: what those files say, else no.
    pub normalize: Option<bool>,
    /// Storage of weights; `None` keeps the file's.
    pub dtype: Option<Format>,
    /// Most texts in one forward pass.
    pub batch: usize,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { pooling: None, normalize: None, dtype: None, batch: 32 }
    }
}

/// One text's vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The vector, [`Embedder::width`] elements.
    pub vector: Vec<f32>,
    /// Tokens that went in, special tokens included.
    pub tokens: usize,
    /// Tokens that were cut off because the text is longer than the model takes.
    pub truncated: usize,
}

/// Turns texts into vectors with a BERT-like encoder.
///
/// ```no_run
/// use tilewright::engine::Device;
/// use tilewright::tasks::{EmbedOptions, Embedder};
///
/// let device = Device::cpu();
/// let embedder = Embedder::open("models/all-MiniLM-L6-v2", device, EmbedOptions::default())?;
/// let vectors = embedder.embed(&["A cat on a warm sill.", "A kitten by the window."])?;
/// let cosine: f32 = vectors[0].vector.iter().zip(&vectors[1].vector).map(|(a, b)| a * b).sum();
/// println!("{cosine:.3}");
/// # Ok::<(), tilewright::Error>(())
/// ```
pub struct Embedder {
    model: TextModel,
    width: usize,
    lower_case: bool,
}

/// Bytes of logits that one forward pass may take where every token has some.
const LOGITS: usize = 256 << 20;

/// How many of the longest texts that is, at least one.
fn most_texts(info: &ModelInfo) -> usize {
    (LOGITS / (info.max_tokens * info.vocab_size * size_of::<f32>()).max(1)).max(1)
}

impl Embedding {
    /// Elements that are not 0, largest first, among equals the first: of a [`Pooling::Splade`]
    /// vector the ids of the words that it gives weight.
    pub fn sparse(&self) -> Vec<(u32, f32)> {
        let entries = (0u32..).zip(self.vector.iter().copied());
        let mut entries: Vec<_> = entries.filter(|(_, value)| *value != 0.0).collect();
        entries.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        entries
    }
}

impl Embedder {
    /// Opens a model folder. Weights are read at the first [`embed`](Self::embed).
    pub fn open(folder: impl AsRef<Path>, device: Device, options: EmbedOptions) -> Result<Self> {
        let folder = folder.as_ref();
        let sentence = SentenceConfig::open(folder)?;
        let sentence = sentence.as_ref();
        let pooling = options.pooling.or(sentence.map(|s| s.pooling)).unwrap_or(Pooling::Mean);
        let normalize = options.normalize.or(sentence.map(|s| s.normalize)).unwrap_or(false);
        let transformer = sentence.map_or(folder, |s| s.transformer.as_path());
        let outputs = Outputs::Embedding { pooling, normalize };
        let build = BuildOptions { dtype: options.dtype, outputs, ..BuildOptions::default() };
        let model = models::open(transformer, &build)?;
        let (width, batch) = match pooling {
            Pooling::Splade => (model.info.vocab_size, options.batch.min(most_texts(&model.info))),
            _ => (model.info.hidden_size, options.batch),
        };
        let mut model = TextModel::new(transformer, model, device, batch)?;
        if let Some(limit) = sentence.and_then(|s| s.max_seq_length) {
            model.max_tokens = model.max_tokens.min(limit);
        }
        Ok(Self { model, width, lower_case: sentence.is_some_and(|s| s.lower_case) })
    }

    /// Elements of a vector: the model's hidden size, or its vocabulary's for [`Pooling::Splade`].
    pub fn width(&self) -> usize {
        self.width
    }

    text_model_accessors!();

    /// The vectors of these texts, in their order.
    pub fn embed<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Embedding>> {
        let go_on = &mut |_: Progress<'_>| ControlFlow::Continue(());
        self.embed_with(texts, go_on, &mut |_| ControlFlow::Continue(()))
    }

    /// The same with callbacks: `loading` while weights are read, `done` with the number of
    /// texts finished, 0 while they are tokenised. Either may stop it with [`Error::Cancelled`].
    pub fn embed_with<S: AsRef<str>>(
        &self,
        texts: &[S],
        loading: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
        done: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Embedding>> {
        let step = &mut |step: Step<'_>| match step {
            Step::Loading(progress) => loading(progress),
            Step::Done { rows, .. } => done(rows),
        };
        let lowered: Vec<String> = match self.lower_case {
            true => texts.iter().map(|t| t.as_ref().to_lowercase()).collect(),
            false => Vec::new(),
        };
        let given: Vec<InputText<'_>> = match self.lower_case {
            true => lowered.iter().map(|t| t.as_str().into()).collect(),
            false => texts.iter().map(|t| t.as_ref().into()).collect(),
        };
        let encoded = self.model.encode(&given, step, |_, mut encoding| {
            let truncated = encoding.truncate(self.model.max_tokens)?;
            if encoding.is_empty() {
                let message = "a text without tokens cannot be embedded: the tokenizer adds \
                               no special tokens to an empty text";
                return Err(Error::Argument(message.to_owned()));
            }
            Ok((encoding, truncated))
        })?;
        let (rows, truncated): (Vec<_>, Vec<_>) = encoded.into_iter().unzip();
        let embedding = |(encoding, truncated): (&Encoding, usize)| Embedding {
            vector: Vec::new(),
            tokens: encoding.len(),
            truncated,
        };
        let mut out: Vec<_> = rows.iter().zip(truncated).map(embedding).collect();
        self.model.run(&rows, None, step, &mut |index, row| {
            out[index].vector = row.get("embedding")?.to_vec();
            Ok(())
        })?;
        Ok(out)
    }
}
