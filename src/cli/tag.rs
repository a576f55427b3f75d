//! `tag`: entities or word classes, with their places in the text.

use clap::ValueEnum;
use serde_json::json;

use super::context::Context;
use super::model::ModelArg;
use super::texts::{Texts, steps, task};
use crate::error::Result;
use crate::tasks::{Aggregation, Tagger};

/// Places are counted in characters (code points) of the text.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    texts: Texts,
    /// How the pieces of a word get one label
    #[arg(long, value_enum, default_value = "first")]
    aggregation: AggregationArg,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AggregationArg {
    /// The first piece's label counts
    First,
    /// The pieces' probabilities are averaged
    Mean,
    /// Every piece with its own label, nothing put together
    None,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let texts = args.texts.read()?;
    let (folder, options) = task(context, &args.model, args.texts.batch)?;
    let tagger = Tagger::open(folder, context.place()?, &options)?;
    tagger.notices().iter().for_each(|n| context.notice(n));
    let mode = match args.aggregation {
        AggregationArg::First => Aggregation::First,
        AggregationArg::Mean => Aggregation::Mean,
        AggregationArg::None => Aggregation::None,
    };
    let given: Vec<_> = texts.iter().map(String::as_str).collect();
    let results = tagger.tag_with(&given, mode, &mut steps(context, "tagging"))?;
    context.warn(&tagger.warnings());
    for (text, entities) in texts.iter().zip(&results) {
        if context.json {
            let entities = entities.iter().map(|e| {
                json!({"label": e.label, "text": e.text, "start": e.start, "end": e.end,
                    "score": e.score})
            });
            let entities: Vec<_> = entities.collect();
            context.line(&json!({"text": text, "entities": entities}).to_string())?;
            continue;
        }
        context.line(text)?;
        let width = entities.iter().map(|e| e.label.chars().count()).max().unwrap_or(0);
        for e in entities {
            let place = format!("{}..{}", e.start, e.end);
            context
                .line(&format!("  {:width$}  {:.4}  {place:>9}  {}", e.label, e.score, e.text))?;
        }
    }
    Ok(())
}
