//! How well a language model predicts texts: the objectives that models are pretrained with.

mod pieces;
mod run;
mod spans;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::texts::{Step, go_on};
use crate::engine::Device;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::graph::{Graph, fuse};
use crate::models::{self, BuildOptions, Class, Kind, Model, ModelInfo, Outputs, token_losses};
use crate::text::Tokenizer;
use crate::weights::{Config, GenerationConfig};
use pieces::{Item, Limits, Piece};

/// What is asked of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// Each token from those before it: perplexity.
    Causal,
    /// Each token, masked, from all others: pseudo-perplexity (Salazar et al. 2020, "Masked
    /// Language Model Scoring").
    Masked,
    /// Spans that were dropped, from the rest (Raffel et al. 2020).
    Span,
    /// A target text from a source text; the two are parted by a tab.
    Pairs,
}

impl Objective {
    /// Its name in options and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Causal => "causal",
            Self::Masked => "masked",
            Self::Span => "span",
            Self::Pairs => "pairs",
        }
    }
}

/// How texts are scored.
#[derive(Clone, Debug)]
pub struct ScoreOptions {
    /// Folder of the head, where the model's folder is only its trunk.
    pub head: Option<PathBuf>,
    /// Storage of weights; `None` keeps the file's.
    pub dtype: Option<Format>,
    /// `None` takes the one the model was made for; pairs where all texts have a tab.
    pub objective: Option<Objective>,
    /// Most tokens that the model sees at once; `None` for its limit, or 1024 where that is more.
    pub context: Option<usize>,
    /// Tokens that a window of a long text scores, the others being their context; `None` for
    /// half the context.
    pub stride: Option<usize>,
    /// Most windows in one forward pass.
    pub batch: usize,
    /// Seed of the spans that are dropped.
    pub seed: u64,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self {
            head: None,
            dtype: None,
            objective: None,
            context: None,
            stride: None,
            batch: 16,
            seed: 0,
        }
    }
}

/// A token and how well it was predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f64,
}

/// How well one text was predicted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// The tokens that were scored, in order.
    pub tokens: Vec<TokenScore>,
    /// Tokens of a pair that were cut off because it is longer than the model takes.
    pub truncated: usize,
}

impl Score {
    /// Mean negative log probability of a token, in nats; `None` if none was scored.
    pub fn loss(&self) -> Option<f64> {
        let sum: f64 = self.tokens.iter().map(|t| -t.logprob).sum();
        (!self.tokens.is_empty()).then(|| sum / self.tokens.len() as f64)
    }

    /// `exp(loss)`: among how many equally likely tokens the model hesitates.
    pub fn perplexity(&self) -> Option<f64> {
        self.loss().map(f64::exp)
    }
}

/// Scores texts with any language model.
///
/// ```no_run
/// use tilewright::engine::Device;
/// use tilewright::tasks::{ScoreOptions, Scorer};
///
/// let scorer = Scorer::open("assets/models/storyteller", Device::cpu(), ScoreOptions::default())?;
/// for score in scorer.score(&["Once upon a time there was a fox.", "Fox a was time there."])? {
///     println!("{} tokens, perplexity {:.1?}", score.tokens.len(), score.perplexity());
/// }
/// # Ok::<(), tilewright::Error>(())
/// ```
pub struct Scorer {
    tokenizer: Tokenizer,
    graph: Arc<Graph>,
    info: ModelInfo,
    notices: Vec<String>,
    device: Device,
    options: ScoreOptions,
    limits: Limits,
    /// The decoder's first token, in an encoder-decoder.
    start: Option<u32>,
}

/// The longest window where neither the model nor the caller sets a limit.
const CONTEXT: usize = 1024;

/// Bytes of one forward pass's logits at most.
const LOGITS_PER_PASS: usize = 64 << 20;

impl Scorer {
    /// Opens a model folder. Weights are read at the first score.
    ///
    /// Errors: a model without a language-model head, an objective that it was not made for, a
    /// context of fewer than 2 tokens or more than it takes.
    pub fn open(folder: impl AsRef<Path>, device: Device, options: ScoreOptions) -> Result<Self> {
        let folder = folder.as_ref();
        let build = BuildOptions {
            dtype: options.dtype,
            outputs: Outputs::MaskedTokens,
            ..BuildOptions::default()
        };
        let mut model = match &options.head {
            Some(head) => models::open_head(folder, head, &build)?,
            None => models::open(folder, &build)?,
        };
        token_losses(&mut model)?;
        let tokenizer = Tokenizer::open(folder)?;
        tokenizer.check_vocab(model.info.vocab_size)?;
        let start = match model.info.kind {
            Kind::EncoderDecoder => {
                let (config, vocab) = (Config::open(folder)?, model.info.output_vocab_size());
                Some(GenerationConfig::open(folder, &config, vocab)?.decoder_start()?)
            }
            Kind::Encoder | Kind::Decoder => None,
        };
        let limits = limits(&model.info, &tokenizer, &options)?;
        let Model { graph, info, notices } = model;
        let graph = Arc::new(fuse(graph, &[])?);
        let scorer = Self { tokenizer, graph, info, notices, device, options, limits, start };
        if let Some(objective) = scorer.options.objective {
            scorer.check(objective)?;
        }
        Ok(scorer)
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
        &self.device
    }

    /// Things the user should be told about the model folder.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What is wrong with the weights, one line each; complete after the first score.
    pub fn warnings(&self) -> Vec<String> {
        self.graph.warnings()
    }

    /// The objective these texts are scored by.
    ///
    /// Errors: an encoder-decoder without sentinels, and a text without a tab.
    pub fn objective<S: AsRef<str>>(&self, texts: &[S]) -> Result<Objective> {
        if let Some(objective) = self.options.objective {
            return Ok(objective);
        }
        let pairs = !texts.is_empty() && texts.iter().all(|text| text.as_ref().contains('\t'));
        let objective = match self.info.class {
            Class::MaskedLm => Objective::Masked,
            Class::CausalLm => Objective::Causal,
            _ if pairs => Objective::Pairs,
            _ => Objective::Span,
        };
        self.check(objective)?;
        Ok(objective)
    }

    /// Whether the model was made for an objective.
    fn check(&self, objective: Objective) -> Result<()> {
        let (name, class) = (objective.name(), self.info.class);
        let fits = match objective {
            Objective::Causal => class == Class::CausalLm,
            Objective::Masked => class == Class::MaskedLm,
            Objective::Span | Objective::Pairs => class == Class::Seq2SeqLm,
        };
        let path = self.tokenizer.path();
        if !fits {
            let message = format!("the objective `{name}` is not for a model of class {class:?}");
            return Err(Error::Argument(message));
        }
        if objective == Objective::Span && spans::sentinels(&self.tokenizer).is_empty() {
            let message = "has no sentinel tokens `<extra_id_0>`, …, which span corruption puts \
                           in place of text; lines `source<TAB>target` can be scored as pairs";
            return Err(Error::file(path, message));
        }
        if objective == Objective::Masked && self.tokenizer.mask_id().is_none() {
            return Err(Error::file(path, "has no mask token; a masked LM needs one"));
        }
        Ok(())
    }

    /// The scores of these texts, in their order.
    pub fn score<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Score>> {
        self.score_with(texts, &mut go_on)
    }

    /// The same with a callback, which may stop it with [`Error::Cancelled`].
    ///
    /// Errors: those of [`objective`](Self::objective); with pairs, a text without a tab.
    pub fn score_with<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        step: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Score>> {
        let objective = self.objective(texts)?;
        let mut out: Vec<Score> = texts.iter().map(|_| Score::default()).collect();
        let (mut items, mut of_text) = (Vec::new(), Vec::new());
        for (index, text) in texts.iter().enumerate() {
            let (found, truncated) = self.items(objective, index, text.as_ref())?;
            out[index].truncated = truncated;
            of_text.resize(of_text.len() + found.len(), index);
            items.extend(found);
            if index % 256 == 0 && step(Step::Done { rows: 0, of: 0 }).is_break() {
                return Err(Error::Cancelled);
            }
        }
        let pieces: Vec<Piece> = items
            .iter()
            .enumerate()
            .flat_map(|(i, item)| self.pieces(objective, i, item))
            .collect();
        let losses = self.run(objective, &items, &pieces, step)?;
        for ((item, losses), text) in items.iter().zip(losses).zip(of_text) {
            let scored = item.scored().iter().zip(losses).filter_map(|(&id, loss)| {
                let logprob = -f64::from(loss?);
                Some(TokenScore { id, logprob })
            });
            out[text].tokens.extend(scored);
        }
        Ok(out)
    }

    fn pieces(&self, objective: Objective, index: usize, item: &Item) -> Vec<Piece> {
        match item {
            Item::Text { prefix, body, suffix } if objective == Objective::Masked => {
                pieces::masked(index, prefix.len() + suffix.len(), body.len(), self.limits)
            }
            Item::Text { prefix, body, .. } => {
                pieces::causal(index, prefix.len(), body.len(), self.limits)
            }
            Item::Pair { target, .. } => pieces::steps(index, target.len(), self.limits),
        }
    }
}

fn limits(info: &ModelInfo, tokenizer: &Tokenizer, options: &ScoreOptions) -> Result<Limits> {
    let most = tokenizer.max_length().map_or(info.max_tokens, |n| n.min(info.max_tokens));
    let context = match options.context {
        None => most.min(CONTEXT),
        Some(context) if (2..=info.max_tokens).contains(&context) => context,
        Some(context) => {
            let most = info.max_tokens;
            let message = format!("a context of {context} tokens; expected 2 to {most}");
            return Err(Error::Argument(message));
        }
    };
    if options.batch == 0 || options.stride == Some(0) {
        let message = "a batch or a stride of 0; at least 1 is needed";
        return Err(Error::Argument(message.to_owned()));
    }
    let picks = LOGITS_PER_PASS / (info.output_vocab_size() * size_of::<f32>()).max(1);
    let stride = options.stride.unwrap_or(context / 2).max(1);
    Ok(Limits { context, stride, picks: picks.max(1) })
}
