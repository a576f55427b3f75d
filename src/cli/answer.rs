//! `answer`: the stretch of a context that answers a question.

use std::path::PathBuf;

use serde_json::json;

use super::context::Context;
use super::context::{count, read_text};
use super::model::ModelArg;
use super::texts::{read_filled_lines, steps, task};
use crate::error::Result;
use crate::tasks::{AnswerOptions, Answerer};

/// Places are counted in characters (code points) of the context, which may be of any length.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// A question; may be given several times
    #[arg(long, value_name = "TEXT", required_unless_present = "file")]
    question: Vec<String>,
    /// A file with one question per line
    #[arg(long, value_name = "LINES", conflicts_with = "question")]
    file: Option<PathBuf>,
    /// The text that holds the answer
    #[arg(long, value_name = "TEXT", required_unless_present = "context_file")]
    context: Option<String>,
    /// A file with that text
    #[arg(long, value_name = "FILE", conflicts_with = "context")]
    context_file: Option<PathBuf>,
    /// Answers per question, the likeliest first
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = count(), allow_negative_numbers = true)]
    top_k: usize,
    /// The longest answer in tokens
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = count(), allow_negative_numbers = true)]
    max_answer_tokens: usize,
    /// Most questions, or parts of a long context, in one forward pass
    #[arg(long, default_value_t = 32, value_parser = count(), allow_negative_numbers = true)]
    batch: usize,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let questions = match &args.file {
        Some(path) => read_filled_lines(context, path)?,
        None => args.question,
    };
    let text = match (args.context_file, args.context) {
        (Some(path), _) => read_text(&path)?,
        (None, text) => text.unwrap_or_default(),
    };
    let (folder, options) = task(context, &args.model, args.batch)?;
    let model = Answerer::open(folder, context.place()?, &options)?;
    model.notices().iter().for_each(|n| context.notice(n));
    let pairs: Vec<_> = questions.iter().map(|q| (q.as_str(), text.as_str())).collect();
    let options = AnswerOptions { top_k: args.top_k, max_tokens: args.max_answer_tokens };
    let results = model.answer_with(&pairs, options, &mut steps(context, "answering"))?;
    context.warn(&model.warnings());
    for answers in &results {
        for a in answers {
            if context.json {
                let line = json!({"answer": a.answer, "start": a.start, "end": a.end,
                    "score": a.score});
                context.line(&line.to_string())?;
            } else {
                let place = format!("{}..{}", a.start, a.end);
                context.line(&format!("{:.4}  {place:>9}  {}", a.score, a.answer))?;
            }
        }
    }
    Ok(())
}
