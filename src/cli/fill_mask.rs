//! `fill-mask`: the likeliest tokens in place of masks.

use serde_json::json;

use super::context::Context;
use super::context::count;
use super::model::ModelArg;
use super::texts::{Texts, steps, task};
use crate::error::Result;
use crate::tasks::{FillMask, Filled, InputText};

/// Texts hold the model's mask token, such as `[MASK]` or `<mask>`, once or several times. With
/// --json every mask is a line of its own.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    texts: Texts,
    /// A second text that every text is read with
    #[arg(long, value_name = "TEXT")]
    pair: Option<String>,
    /// Tokens per mask
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = count(), allow_negative_numbers = true)]
    top_k: usize,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let texts = args.texts.read_filled(context)?;
    let (folder, options) = task(context, &args.model, args.texts.batch)?;
    let model = FillMask::open(folder, context.place()?, &options)?;
    model.notices().iter().for_each(|n| context.notice(n));
    let given = texts.iter().map(|t| InputText { first: t, second: args.pair.as_deref() });
    let given: Vec<_> = given.collect();
    let results = model.fill_with(&given, args.top_k, &mut steps(context, "filling masks"))?;
    context.warn(&model.warnings());
    for (text, masks) in texts.iter().zip(&results) {
        for (number, mask) in masks.iter().enumerate() {
            if context.json {
                context.line(&as_json(text, mask).to_string())?;
                continue;
            }
            let which = if masks.len() > 1 {
                format!(" ({} {} of {})", model.mask(), number + 1, masks.len())
            } else {
                String::new()
            };
            context.line(&format!("{text}{which}"))?;
            for candidate in &mask.candidates {
                context.line(&format!("  {:.4}  {}", candidate.score, candidate.token))?;
            }
        }
    }
    Ok(())
}

fn as_json(text: &str, mask: &Filled) -> serde_json::Value {
    let tokens = mask.candidates.iter();
    let tokens: Vec<_> =
        tokens.map(|c| json!({"token": c.token, "id": c.id, "score": c.score})).collect();
    json!({"text": text, "tokens": tokens})
}
