//! `score`: how well a language model predicts texts.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::context::Context;
use super::context::{count, read_text};
use super::model::ModelArg;
use super::texts::steps;
use crate::engine::Shipped;
use crate::error::Result;
use crate::tasks::{Objective, Score, ScoreOptions, Scorer};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// Texts; for pairs a source and a target parted by a tab
    #[arg(required_unless_present = "file")]
    texts: Vec<String>,
    /// A file with one text per line; may be given several times
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Each file is one text, which long windows with a stride go over
    #[arg(long, requires = "file")]
    whole: bool,
    /// What the model is asked
    #[arg(long, value_enum, default_value = "auto")]
    objective: Choice,
    /// Most tokens that the model sees at once; its own limit by default, at most 1024
    #[arg(long, value_name = "N", value_parser = count(), allow_negative_numbers = true)]
    context: Option<usize>,
    /// Tokens scored per window of a long text, the others being context; half of it by default
    #[arg(long, value_name = "N", value_parser = count(), allow_negative_numbers = true)]
    stride: Option<usize>,
    /// Seed of the spans that `span` drops
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    seed: u64,
    /// Most windows in one forward pass
    #[arg(long, default_value_t = 16, value_parser = count(), allow_negative_numbers = true)]
    batch: usize,
    /// With --json, also the tokens and their log probabilities
    #[arg(long)]
    tokens: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    /// What the model was pretrained for; `pairs` where an encoder-decoder's texts all have a tab
    Auto,
    /// Each token from those before it: perplexity
    Causal,
    /// Each token, masked, from all others: pseudo-perplexity
    Masked,
    /// Spans that were dropped, from the rest, as T5 was pretrained
    Span,
    /// A target from its source
    Pairs,
}

impl Args {
    fn read(&self) -> Result<Vec<String>> {
        let mut texts = self.texts.clone();
        for path in &self.file {
            let text = read_text(path)?;
            if self.whole {
                texts.push(text);
            } else {
                texts.extend(text.lines().map(str::to_owned));
            }
        }
        Ok(texts)
    }
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let texts = args.read()?;
    let device = context.place()?;
    let Shipped { folder, head } = args.model.resolve(context)?;
    let options = ScoreOptions {
        head,
        dtype: context.weight_dtype()?,
        objective: match args.objective {
            Choice::Auto => None,
            Choice::Causal => Some(Objective::Causal),
            Choice::Masked => Some(Objective::Masked),
            Choice::Span => Some(Objective::Span),
            Choice::Pairs => Some(Objective::Pairs),
        },
        context: args.context,
        stride: args.stride,
        batch: args.batch,
        seed: args.seed,
    };
    let scorer = Scorer::open(folder, device, options)?;
    scorer.notices().iter().for_each(|n| context.notice(n));
    let objective = scorer.objective(&texts)?;
    let scores = scorer.score_with(&texts, &mut steps(context, "scoring"))?;
    context.warn(&scorer.warnings());
    let cut = scores.iter().filter(|score| score.truncated > 0).count();
    if cut > 0 {
        context.notice(&format!("pairs cut to the most tokens that the model sees: {cut}"));
    }
    for (text, score) in texts.iter().zip(&scores) {
        if context.json {
            context.line(&row(text, score, objective, args.tokens).to_string())?;
        } else {
            context.line(&format!("{}  {}", figures(score), shown(text)))?;
        }
    }
    let total = Score {
        tokens: scores.iter().flat_map(|score| score.tokens.iter().copied()).collect(),
        truncated: scores.iter().map(|score| score.truncated).sum(),
    };
    if context.json {
        let mut row = json!({"texts": texts.len()});
        add(&mut row, &total, objective);
        context.line(&row.to_string())
    } else {
        let measure = match objective {
            Objective::Causal => "perplexity",
            Objective::Masked => "pseudo-perplexity",
            Objective::Span => "span-corruption loss",
            Objective::Pairs => "target loss",
        };
        let all = texts.len();
        let tokens = total.tokens.len();
        context.line(&format!("{}  {measure} of {all} texts, {tokens} tokens", figures(&total)))
    }
}

/// Keys that lines and the total have in common.
fn add(row: &mut Value, score: &Score, objective: Objective) {
    row["objective"] = objective.name().into();
    row["tokens"] = score.tokens.len().into();
    row["loss"] = score.loss().into();
    row["perplexity"] = score.perplexity().filter(|p| p.is_finite()).into();
}

fn row(text: &str, score: &Score, objective: Objective, tokens: bool) -> Value {
    let mut row = json!({"text": text});
    add(&mut row, score, objective);
    if tokens {
        row["ids"] = score.tokens.iter().map(|t| t.id).collect::<Vec<_>>().into();
        row["token_logprobs"] = score.tokens.iter().map(|t| t.logprob).collect::<Vec<_>>().into();
    }
    row
}

/// Loss, perplexity and tokens, in columns.
fn figures(score: &Score) -> String {
    let tokens = score.tokens.len();
    match (score.loss(), score.perplexity()) {
        (Some(loss), Some(perplexity)) => {
            format!("loss {loss:7.4}  perplexity {perplexity:10.2}  tokens {tokens:6}")
        }
        _ => format!("loss {:>7}  perplexity {:>10}  tokens {tokens:6}", "-", "-"),
    }
}

/// The beginning of a text, on one line.
fn shown(text: &str) -> String {
    let line = text.replace(['\n', '\r', '\t'], " ");
    let mut chars = line.chars();
    let start: String = chars.by_ref().take(60).collect();
    if chars.next().is_some() { start + "…" } else { start }
}
