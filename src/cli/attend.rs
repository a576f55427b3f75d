//! `attend`: which word attends to which, as a page.

use std::path::PathBuf;

use super::context::Context;
use super::model::ModelArg;
use crate::error::Result;
use crate::files::write_whole;
use crate::tasks::Attender;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// The text
    text: String,
    /// A second text, for models that read pairs
    #[arg(long, value_name = "TEXT")]
    pair: Option<String>,
    /// The text that an encoder-decoder is made to write
    #[arg(long, value_name = "TEXT")]
    target: Option<String>,
    /// Where the page goes; needs no network to be read
    #[arg(long, value_name = "FILE", required_unless_present = "json")]
    html: Option<PathBuf>,
}

/// Pages of this many weights and more are worth a word: about 12 MB.
const LARGE: usize = 1 << 22;

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let device = context.place()?;
    let (found, dtype) = (args.model.resolve(context)?, context.weight_dtype()?);
    let attender = match found.head {
        Some(head) => Attender::open_head(found.folder, head, device, dtype)?,
        None => Attender::open(found.folder, device, dtype)?,
    };
    attender.notices().iter().for_each(|n| context.notice(n));
    let (pair, target) = (args.pair.as_deref(), args.target.as_deref());
    let attended = attender.attend_with(&args.text, pair, target, &mut context.load_progress())?;
    context.warn(&attender.warnings());
    context.check_cancelled()?;
    if let Some(path) = &args.html {
        let page = attended.to_html();
        write_whole(path, page.as_bytes())?;
        let weights: usize = attended.maps.iter().map(|m| m.weights.shape().numel()).sum();
        let size = page.len() as f64 / 1e6;
        let hint = if weights >= LARGE { "; a shorter text makes a smaller one" } else { "" };
        context.notice(&format!(
            "{}: {weights} weights of {} attention layers, {size:.1} MB{hint}",
            path.display(),
            attended.maps.len()
        ));
    }
    if context.json {
        context.line(&attended.to_json().to_string())?;
    }
    Ok(())
}
