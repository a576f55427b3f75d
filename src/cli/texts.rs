//! What the commands that take texts share.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::context::{count, read_lines};
use super::model::ModelArg;
use crate::engine::Shipped;
use crate::error::Result;
use crate::tasks::{Step, TaskOptions};

/// Texts as arguments, or the lines of a file.
#[derive(clap::Args)]
pub(super) struct Texts {
    /// Texts
    #[arg(required_unless_present = "file")]
    texts: Vec<String>,
    /// A file with one text per line
    #[arg(long, value_name = "LINES", conflicts_with = "texts")]
    file: Option<PathBuf>,
    /// Most texts in one forward pass
    #[arg(long, default_value_t = 32, value_parser = count(), allow_negative_numbers = true)]
    pub batch: usize,
}

impl Texts {
    /// The texts.
    pub fn read(&self) -> Result<Vec<String>> {
        match &self.file {
            Some(path) => read_lines(path),
            None => Ok(self.texts.clone()),
        }
    }

    /// The texts, without a file's blank lines: for tasks that have no answer for them.
    pub fn read_filled(&self, context: &Context) -> Result<Vec<String>> {
        match &self.file {
            Some(path) => read_filled_lines(context, path),
            None => Ok(self.texts.clone()),
        }
    }
}

/// The lines of a text file or pipe that are not blank; says how many were.
pub(super) fn read_filled_lines(context: &Context, path: &Path) -> Result<Vec<String>> {
    let mut lines = read_lines(path)?;
    let all = lines.len();
    lines.retain(|line| !line.trim().is_empty());
    if lines.len() < all {
        context.notice(&format!(
            "{}: blank lines passed over: {}",
            path.display(),
            all - lines.len()
        ));
    }
    Ok(lines)
}

/// The folder of an encoder, and how a task opens it.
pub(super) fn task(
    context: &Context,
    model: &ModelArg,
    batch: usize,
) -> Result<(PathBuf, TaskOptions)> {
    let Shipped { folder, head } = model.resolve(context)?;
    Ok((folder, TaskOptions { head, dtype: context.weight_dtype()?, batch }))
}

/// A callback that shows how far a task has come and stops at Ctrl-C.
pub(super) fn steps<'a>(
    context: &'a Context,
    what: &str,
) -> impl FnMut(Step<'_>) -> ControlFlow<()> + use<'a> {
    let mut loading = context.load_progress();
    let bar = context.bar(what, 0, false);
    move |step| match step {
        Step::Loading(progress) => loading(progress),
        Step::Done { rows, of } => {
            bar.set_length(of as u64);
            bar.set_position(rows as u64);
            if rows == of && of > 0 {
                bar.finish_and_clear();
            }
            if context.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
}
