//! Sentence embeddings: encode, pool over tokens, optionally scale to length 1.

use std::ops::ControlFlow;
use std::path::Path;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::graph::Progress;
use crate::models::{self, BuildOptions, Device, ModelInfo, Outputs, Runner};
use crate::tensor::DType;
use crate::text::{Batch, Encoding, Tokenizer};
use crate::weights::{Pooling, SentenceConfig};

/// How texts become vectors. The default follows the model folder.
#[derive(Clone, Copy, Debug)]
pub struct EmbedOptions {
    /// Pooling over tokens; `None`: what the folder's sentence-transformers files say, else mean.
    pub pooling: Option<Pooling>,
    /// Scale to length 1; `None`: what those files say, else no.
    pub normalize: Option<bool>,
    /// Storage of weights; `None` keeps the file's.
    pub dtype: Option<DType>,
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
    /// The vector, as wide as the model's hidden states.
    pub vector: Vec<f32>,
    /// Tokens that went in, special tokens included.
    pub tokens: usize,
    /// Tokens that were cut off because the text is longer than the model takes.
    pub truncated: usize,
}

/// Turns texts into vectors with a BERT-like encoder.
///
/// ```no_run
/// use tilewright::models::Device;
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
    tokenizer: Tokenizer,
    runner: Runner,
    info: ModelInfo,
    max_tokens: usize,
    batch: usize,
    lower_case: bool,
    notices: Vec<String>,
}

/// Tokens of one forward pass at most, padding included: bounds the memory of a batch of long
/// texts, and is plenty to fill a GPU.
const TOKENS_PER_PASS: usize = 8192;

/// Texts tokenised between two looks at whether to go on.
const TEXTS_PER_CHUNK: usize = 1024;

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
        let tokenizer = Tokenizer::open(transformer)?;
        tokenizer.check_vocab(model.info.vocab_size)?;
        let limits = [sentence.and_then(|s| s.max_seq_length), tokenizer.max_length()];
        let max_tokens = limits.into_iter().flatten().fold(model.info.max_tokens, usize::min);
        if options.batch == 0 {
            return Err(Error::Argument("a batch of 0 texts; at least 1 is needed".to_owned()));
        }
        Ok(Self {
            tokenizer,
            runner: Runner::new(model.graph, device)?,
            info: model.info,
            max_tokens,
            batch: options.batch,
            lower_case: sentence.is_some_and(|s| s.lower_case),
            notices: model.notices,
        })
    }

    /// Sizes of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        self.runner.device()
    }

    /// Longest text in tokens; longer ones are cut.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Things the user should be told about the model folder.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What is wrong with the weights, one line each; complete after the first
    /// [`embed`](Self::embed).
    pub fn warnings(&self) -> Vec<String> {
        self.runner.warnings()
    }

    /// The vectors of these texts, in their order.
    pub fn embed<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Embedding>> {
        let go_on = &mut |_: Progress<'_>| ControlFlow::Continue(());
        self.embed_with(texts, go_on, &mut |_| ControlFlow::Continue(()))
    }

    /// The same with callbacks: `loading` while weights are read, `done` with the number of
    /// texts finished, 0 while they are tokenised. Either may stop it with [`Error::Cancelled`].
    pub fn embed_with<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        loading: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
        done: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Embedding>> {
        let mut encoded = Vec::with_capacity(texts.len());
        for chunk in texts.chunks(TEXTS_PER_CHUNK) {
            encoded.extend(self.encode(chunk, encoded.len())?);
            if done(0).is_break() {
                return Err(Error::Cancelled);
            }
        }
        // Texts of like length go together, so that little is computed for padding.
        encoded.sort_by_key(|e| std::cmp::Reverse(e.encoding.len()));
        let passes = self.passes(&encoded);
        let longest = encoded.first().map_or(1, |e| e.encoding.len());
        let largest = passes.iter().map(|p| p.len()).max().unwrap_or(1);
        self.runner.reserve(&[("batch", largest), ("tokens", longest)], loading)?;
        let mut out: Vec<Option<Embedding>> = texts.iter().map(|_| None).collect();
        let mut finished = 0;
        for pass in passes {
            for (one, vector) in
                encoded[pass.clone()].iter().zip(self.pass(&encoded[pass.clone()])?)
            {
                let (tokens, truncated) = (one.encoding.len(), one.truncated);
                out[one.index] = Some(Embedding { vector, tokens, truncated });
            }
            finished += pass.len();
            if done(finished).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(out.into_iter().flatten().collect())
    }

    fn encode<S: AsRef<str> + Sync>(&self, texts: &[S], first: usize) -> Result<Vec<Encoded>> {
        texts
            .par_iter()
            .enumerate()
            .map(|(index, text)| {
                let lower = self.lower_case.then(|| text.as_ref().to_lowercase());
                let text = lower.as_deref().unwrap_or(text.as_ref());
                let mut encoding = self.tokenizer.encode(text, true)?;
                let truncated = encoding.truncate(self.max_tokens)?;
                if encoding.is_empty() {
                    let message = "a text without tokens cannot be embedded: the tokenizer adds \
                                   no special tokens to an empty text";
                    return Err(Error::Argument(message.to_owned()));
                }
                Ok(Encoded { index: first + index, encoding, truncated })
            })
            .collect()
    }

    /// Ranges of texts, sorted by length, that go through the model together.
    fn passes(&self, encoded: &[Encoded]) -> Vec<std::ops::Range<usize>> {
        let mut passes = Vec::new();
        let mut start = 0;
        while let Some(first) = encoded.get(start) {
            let by_tokens = (TOKENS_PER_PASS / first.encoding.len().max(1)).max(1);
            let end = encoded.len().min(start + self.batch.min(by_tokens));
            passes.push(start..end);
            start = end;
        }
        passes
    }

    fn pass(&self, encoded: &[Encoded]) -> Result<Vec<Vec<f32>>> {
        let encodings = encoded.iter().map(|e| e.encoding.clone()).collect();
        let batch = Batch::new(encodings, None, self.tokenizer.pad_id())?;
        let outputs = self.runner.run(&[
            ("input_ids", &batch.input_ids),
            ("attention_mask", &batch.attention_mask),
            ("token_type_ids", &batch.token_type_ids),
        ])?;
        let pooled = outputs
            .get("embedding")
            .ok_or_else(|| Error::tensor("embedding", "the model gave no such output"))?;
        let width = pooled.shape().last();
        Ok(pooled.as_f32()?.chunks_exact(width).map(<[f32]>::to_vec).collect())
    }
}

struct Encoded {
    index: usize,
    encoding: Encoding,
    truncated: usize,
}
