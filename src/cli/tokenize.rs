//! `tokenize`: ids and tokens.

use serde_json::json;

use super::context::Context;
use super::model::ModelArg;
use crate::error::Result;
use crate::text::Tokenizer;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// Texts
    #[arg(required = true)]
    texts: Vec<String>,
    /// Without the model's special tokens
    #[arg(long)]
    no_special: bool,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let tokenizer = Tokenizer::open(args.model.folder(context)?)?;
    for text in &args.texts {
        context.check_cancelled()?;
        let encoding = tokenizer.encode(text, !args.no_special)?;
        if context.json {
            let line = json!({"text": text, "ids": encoding.ids, "tokens": encoding.tokens});
            context.line(&line.to_string())?;
        } else {
            let pairs = encoding.ids.iter().zip(&encoding.tokens);
            let words: Vec<_> = pairs.map(|(id, token)| format!("{token} {id}")).collect();
            context.line(&words.join("  "))?;
        }
    }
    Ok(())
}
