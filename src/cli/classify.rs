//! `classify`: labels of texts, with scores.

use serde_json::json;

use super::context::Context;
use super::context::count;
use super::model::ModelArg;
use super::texts::{Texts, steps, task};
use crate::error::Result;
use crate::tasks::{Classifier, InputText};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    texts: Texts,
    /// A second text that every text is read with, such as a hypothesis
    #[arg(long, value_name = "TEXT")]
    pair: Option<String>,
    /// Only the K likeliest labels
    #[arg(long, value_name = "K", value_parser = count(), allow_negative_numbers = true)]
    top_k: Option<usize>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let texts = args.texts.read()?;
    let (folder, options) = task(context, &args.model, args.texts.batch)?;
    let classifier = Classifier::open(folder, context.place()?, &options)?;
    classifier.notices().iter().for_each(|n| context.notice(n));
    let given = texts.iter().map(|t| InputText { first: t, second: args.pair.as_deref() });
    let given: Vec<_> = given.collect();
    let results = classifier.classify_with(&given, &mut steps(context, "classifying"))?;
    context.warn(&classifier.warnings());
    let cut = results.iter().filter(|r| r.truncated > 0).count();
    if cut > 0 {
        let most = classifier.max_tokens();
        context.notice(&format!("texts cut to the model's {most} tokens: {cut}"));
    }
    let unread = results.iter().filter(|r| r.labels.is_empty()).count();
    if unread > 0 {
        context.notice(&format!("texts without a token, which have no labels: {unread}"));
    }
    for (text, result) in texts.iter().zip(&results) {
        let labels = result.labels.iter().take(args.top_k.unwrap_or(usize::MAX));
        if context.json {
            let labels: Vec<_> =
                labels.map(|l| json!({"label": l.label, "score": l.score})).collect();
            context.line(&json!({"text": text, "labels": labels}).to_string())?;
        } else {
            let labels: String = labels.map(|l| format!("{} {:.4}  ", l.label, l.score)).collect();
            context.line(&format!("{labels}{text}"))?;
        }
    }
    Ok(())
}
