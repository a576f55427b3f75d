//! The command line: one file per subcommand. `tilewright --help` is its documentation.
//!
//! Answers go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed (one line
//! `error: …`), 2 wrong usage; of `check`, 1 when it found something and 2 when it cannot run.

mod answer;
mod attend;
mod bench;
mod check;
mod check_file;
mod classify;
mod context;
mod cost;
mod demo;
mod devices;
mod embed;
mod fill_mask;
mod findings;
mod generate;
mod graph;
mod hub;
mod model;
mod op;
mod plan;
mod profile;
mod run;
mod score;
mod tag;
mod texts;
mod tokenize;
mod tune;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::Context;

use crate::error::{Error, Result};

/// Runs transformers on any GPU through hand-written WGSL kernels, checked against a CPU
/// reference.
#[derive(Parser)]
#[command(name = "tilewright", version, max_term_width = 100)]
struct Args {
    #[command(flatten)]
    global: context::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The shipped models on the best device: answers, speed, agreement with the CPU reference
    Demo(demo::Args),
    /// Adapters, what each supports, and which kernel variants run on it
    Devices(devices::Args),
    /// Run a model's forward pass from tensors to tensors
    Run(run::Args),
    /// Run one op from tensors to tensors
    Op(op::Args),
    /// Token ids and tokens of texts
    Tokenize(tokenize::Args),
    /// Sentence embeddings of texts or of a file's lines
    Embed(embed::Args),
    /// The likeliest tokens in place of a mask
    FillMask(fill_mask::Args),
    /// Labels of texts, such as their sentiment
    Classify(classify::Args),
    /// Entities or word classes in texts, with their places
    Tag(tag::Args),
    /// The stretch of a context that answers a question
    Answer(answer::Args),
    /// Continue a prompt, or answer it with an encoder-decoder
    Generate(generate::Args),
    /// Translate texts with an encoder-decoder
    Translate(generate::TextArgs),
    /// Summarise texts with an encoder-decoder
    Summarize(generate::TextArgs),
    /// How well a language model predicts texts: perplexity, pseudo-perplexity, losses
    Score(score::Args),
    /// Which word attends to which, per layer and head, as a page
    Attend(attend::Args),
    /// Check kernels or a whole model against the CPU reference
    Verify(verify::Args),
    /// Search kernels for races and the like on machines that are not here; no GPU is needed
    Check(check::Args),
    /// Speed of kernels on this device, each checked before it is timed
    Bench(bench::Args),
    /// Exact memory a model needs, and whether it fits the device
    Plan(plan::Args),
    /// Time the kernels for a model on this device, and keep which are fastest
    Tune(tune::Args),
    /// Time per layer and kernel on the device's own clock
    Profile(profile::Args),
    /// The command graph of a model, by layer
    Graph(graph::Args),
}

/// Parses the process's arguments, runs the command, and gives the exit code.
pub fn run() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let printed = error.print().map_err(|e| Error::io("stdout", e));
            // Help and the version are answers, which a full disk loses.
            return if error.use_stderr() { ExitCode::from(2) } else { exit(printed) };
        }
    };
    let context = match Context::new(args.global) {
        Ok(context) => context,
        Err(error) => return exit(Err(error)),
    };
    let outcome = match args.command {
        Command::Check(args) => return check::run(&context, args),
        Command::Demo(args) => demo::run(&context, args),
        Command::Devices(args) => devices::run(&context, args),
        Command::Run(args) => run::run(&context, args),
        Command::Op(args) => op::run(&context, args),
        Command::Tokenize(args) => tokenize::run(&context, args),
        Command::Embed(args) => embed::run(&context, args),
        Command::FillMask(args) => fill_mask::run(&context, args),
        Command::Classify(args) => classify::run(&context, args),
        Command::Tag(args) => tag::run(&context, args),
        Command::Answer(args) => answer::run(&context, args),
        Command::Generate(args) => generate::run(&context, args),
        Command::Translate(args) => generate::translate(&context, args),
        Command::Summarize(args) => generate::summarize(&context, args),
        Command::Score(args) => score::run(&context, args),
        Command::Attend(args) => attend::run(&context, args),
        Command::Verify(args) => verify::run(&context, args),
        Command::Bench(args) => bench::run(&context, args),
        Command::Plan(args) => plan::run(&context, args),
        Command::Tune(args) => tune::run(&context, args),
        Command::Profile(args) => profile::run(&context, args),
        Command::Graph(args) => graph::run(&context, args),
    };
    exit(outcome)
}

fn exit(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            context::complain(&format!("error: {}", one_line(&error.to_string())));
            ExitCode::FAILURE
        }
    }
}

/// Messages of other crates may span lines; ours are one.
fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The reader of our output went away, as `head` does: nothing failed.
fn is_closed_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}
