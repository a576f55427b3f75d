//! `generate`, `translate` and `summarize`: text from a model that generates.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::json;

use super::context::Context;
use super::context::read_lines;
use super::model::{CacheArg, ModelArg};
use crate::error::{Error, Result};
use crate::models::Kind;
use crate::tasks::{Event, GenerateOptions, Generation, TextGenerator, Timing};
use crate::text::{ChatTemplate, Message};
use crate::weights::GenerationConfig;

/// What all three commands take.
#[derive(clap::Args)]
struct Shared {
    #[command(flatten)]
    model: ModelArg,
    /// Most new tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 24), allow_negative_numbers = true)]
    max_new_tokens: Option<u64>,
    /// Keep this many texts and take the best in the end; 1 for one token at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024), allow_negative_numbers = true)]
    num_beams: Option<u64>,
    /// Draw tokens by probability^(1/T); 0 takes the likeliest
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Draw among the K likeliest tokens only
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(0..=1 << 31), allow_negative_numbers = true)]
    top_k: Option<u64>,
    /// Draw among the fewest likeliest tokens whose probabilities reach P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Divide the logits of tokens already there by this; 1 for no such rule
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// Seed of the draws: the same one gives the same text on the same device
    #[arg(long, default_value_t = 0, value_name = "SEED", allow_negative_numbers = true)]
    seed: u64,
    /// End the text in front of this string; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Replaces the folder's generation_config.json whole: a file, or JSON text
    #[arg(long, value_name = "FILE-or-JSON")]
    generation_config: Option<String>,
    /// Most tokens of prompt and result together; the caches are made for them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 24), allow_negative_numbers = true)]
    context: Option<u64>,
    #[command(flatten)]
    cache: CacheArg,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shared: Shared,
    /// What the text begins with; on an encoder-decoder, the encoder's input. May be given
    /// several times
    #[arg(long, value_name = "TEXT", required_unless_present = "prompt_ids")]
    prompt: Vec<String>,
    /// Token ids instead of text, such as 5,17,3; may be given several times
    #[arg(long, value_name = "IDS", conflicts_with = "prompt", value_parser = parse_ids, allow_negative_numbers = true)]
    prompt_ids: Vec<Ids>,
    /// Put the prompt into the model's chat template, as the user's message
    #[arg(long, conflicts_with = "prompt_ids")]
    chat: bool,
    /// With --chat: a message from the system before the user's
    #[arg(long, requires = "chat", value_name = "TEXT")]
    system: Option<String>,
}

/// One prompt's ids; a type of its own, so that clap does not take it for many values.
#[derive(Clone)]
struct Ids(Vec<u32>);

fn parse_ids(text: &str) -> Result<Ids, String> {
    let id = |part: &str| {
        let part = part.trim();
        part.parse().map_err(|_| format!("`{part}` is not a token id; expected such as 5,17,3"))
    };
    text.split(',').map(id).collect::<Result<_, _>>().map(Ids)
}

/// Arguments of `translate` and `summarize`.
#[derive(clap::Args)]
pub(crate) struct TextArgs {
    #[command(flatten)]
    shared: Shared,
    /// Texts
    #[arg(required_unless_present = "file")]
    texts: Vec<String>,
    /// A file with one text per line
    #[arg(long, value_name = "LINES", conflicts_with = "texts")]
    file: Option<PathBuf>,
    /// Put in front of every text, such as "translate English to German: "; by default what
    /// config.json's task_specific_params say of the task
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Most texts that are worked on together
    #[arg(long, default_value_t = 8, value_parser = super::context::count(), allow_negative_numbers = true)]
    batch: usize,
}

impl Shared {
    fn open(&self, context: &Context) -> Result<(TextGenerator, GenerationConfig)> {
        let options = GenerateOptions {
            dtype: context.weight_dtype()?,
            max_tokens: self.context.map(|n| n as usize),
            cache: self.cache.dtype(),
        };
        let folder = self.model.folder(context)?;
        let model = TextGenerator::open(folder, context.place()?, options)?;
        model.generator().notices().iter().for_each(|n| context.notice(n));
        let config = self.configure(&model, model.config().clone())?;
        config.notices.iter().for_each(|n| context.notice(n));
        Ok((model, config))
    }

    /// The folder's configuration or its replacement, changed by the flags.
    fn configure(&self, model: &TextGenerator, base: GenerationConfig) -> Result<GenerationConfig> {
        let mut config = match &self.generation_config {
            Some(argument) => model.parse_config(argument)?,
            None => base,
        };
        if let Some(n) = self.max_new_tokens {
            config.max_new_tokens = Some(n as usize);
        }
        if let Some(n) = self.num_beams {
            config.num_beams = n as usize;
        }
        if let Some(temperature) = self.temperature {
            config.temperature = temperature;
            config.do_sample = temperature != 0.0;
        } else if self.top_k.is_some() || self.top_p.is_some() {
            config.do_sample = true;
        }
        if config.do_sample && self.num_beams.is_none() && self.generation_config.is_none() {
            // Asked to draw: the folder's beams are for when nothing is said.
            config.num_beams = 1;
        }
        if let Some(k) = self.top_k {
            config.top_k = k as usize;
        }
        if let Some(p) = self.top_p {
            config.top_p = p;
        }
        if let Some(penalty) = self.repetition_penalty {
            config.repetition_penalty = penalty;
        }
        config.stop_strings.extend(self.stop.iter().cloned());
        config.decoding()?;
        Ok(config)
    }
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let (model, config) = args.shared.open(context)?;
    let (texts, ids) = if args.prompt_ids.is_empty() {
        // A chat template writes the special tokens itself.
        let ids = match args.chat {
            true => model.encode(&chat(context, &args)?, false)?,
            false => model.encode(&args.prompt, true)?,
        };
        (args.prompt.clone(), ids)
    } else {
        let ids: Vec<_> = args.prompt_ids.iter().map(|ids| ids.0.clone()).collect();
        let decode = |ids: &Vec<u32>| model.tokenizer().decode(ids, false);
        (ids.iter().map(decode).collect::<Result<_>>()?, ids)
    };
    model.length_notice(&ids)?.iter().for_each(|n| context.notice(n));
    // Text is streamed when there is one of it: several would be woven together.
    let stream = ids.len() == 1 && !context.json && config.num_beams == 1;
    let continues = model.info().kind == Kind::Decoder && !args.chat;
    // The prompt comes first, once there is something to follow it: errors come alone.
    let lead = if continues { texts[0].as_str() } else { "" };
    let shown = if stream { Some(lead) } else { None };
    let seed = args.shared.seed;
    let (generations, timing) = generate(context, &model, &ids, &config, seed, shown)?;
    for (prompt, generation) in texts.iter().zip(&generations) {
        if context.json {
            context.line(&answer(prompt, generation, &timing).to_string())?;
        } else if stream {
            context.line("")?;
        } else {
            let before = if continues { prompt } else { "" };
            context.line(&format!("{before}{}", generation.text))?;
        }
    }
    summary(context, &model, &generations, &timing);
    Ok(())
}

/// The prompts as the user's messages in the model's chat template.
fn chat(context: &Context, args: &Args) -> Result<Vec<String>> {
    let template = ChatTemplate::open(args.shared.model.folder(context)?, None)?;
    let render = |prompt: &String| {
        let system = args.system.iter().map(|text| Message::new("system", text));
        let messages: Vec<_> = system.chain([Message::new("user", prompt)]).collect();
        template.render(&messages, true)
    };
    args.prompt.iter().map(render).collect()
}

fn generate(
    context: &Context,
    model: &TextGenerator,
    ids: &[Vec<u32>],
    config: &GenerationConfig,
    seed: u64,
    mut shown: Option<&str>,
) -> Result<(Vec<Generation>, Timing)> {
    let mut loading = context.load_progress();
    let mut failed = None;
    let result = model.generate_ids(ids, config, seed, &mut |event| match event {
        Event::Loading(progress) => loading(progress),
        Event::Text(_, piece) => {
            if let Some(lead) = &mut shown {
                let text = format!("{}{piece}", std::mem::take(lead));
                if let Err(error) = context.write(text.as_bytes()) {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            if context.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    })?;
    context.warn(&model.generator().warnings());
    failed.map_or(Ok(()), Err)?;
    if let Some(lead) = shown.filter(|lead| !lead.is_empty()) {
        // Nothing followed.
        context.write(lead.as_bytes())?;
    }
    context.check_cancelled()?;
    Ok(result)
}

fn answer(text: &str, generation: &Generation, timing: &Timing) -> serde_json::Value {
    json!({
        "prompt": text,
        "text": generation.text,
        "ids": generation.ids,
        "prompt_tokens": generation.prompt_tokens,
        "new_tokens": generation.ids.len(),
        "finish": generation.finish.name(),
        "score": generation.score,
        "prefill_ms": timing.prefill_ms,
        "decode_tokens_per_s": timing.decode_tokens_per_s,
    })
}

fn summary(context: &Context, model: &TextGenerator, all: &[Generation], timing: &Timing) {
    let prompt: usize = all.iter().map(|g| g.prompt_tokens).sum();
    let new: usize = all.iter().map(|g| g.ids.len()).sum();
    let rate = match timing.decode_tokens_per_s {
        // All came with the prompts.
        0.0 => String::new(),
        rate => format!(" at {rate:.1} tokens/s"),
    };
    let (ms, device) = (timing.prefill_ms, model.generator().device().name());
    context
        .notice(&format!("{prompt} prompt tokens in {ms:.0} ms, {new} new ones{rate} on {device}"));
}

pub(crate) fn translate(context: &Context, args: TextArgs) -> Result<()> {
    answer_texts(context, args, "translation")
}

pub(crate) fn summarize(context: &Context, args: TextArgs) -> Result<()> {
    answer_texts(context, args, "summarization")
}

fn answer_texts(context: &Context, args: TextArgs, task: &str) -> Result<()> {
    let (model, config) = args.shared.open(context)?;
    if model.info().kind != Kind::EncoderDecoder {
        let found = model.info().model_type.clone();
        return Err(Error::Argument(format!(
            "--model is a `{found}`; this command takes an encoder-decoder such as T5, BART or \
             Marian"
        )));
    }
    let texts = match &args.file {
        Some(path) => read_lines(path)?,
        None => args.texts.clone(),
    };
    let prefix = match &args.prefix {
        Some(prefix) => prefix.clone(),
        None => model.task_prefix(task)?.unwrap_or_default(),
    };
    let prompts: Vec<_> = texts.iter().map(|text| format!("{prefix}{text}")).collect();
    let ids = model.encode(&prompts, true)?;
    model.length_notice(&ids)?.iter().for_each(|n| context.notice(n));
    let bar = context.bar("texts", texts.len() as u64, false);
    let (mut all, mut total) = (Vec::new(), Timing::default());
    for (texts, ids) in texts.chunks(args.batch).zip(ids.chunks(args.batch)) {
        let (generations, timing) =
            generate(context, &model, ids, &config, args.shared.seed, None)?;
        for (text, generation) in texts.iter().zip(&generations) {
            let line = match context.json {
                true => answer(text, generation, &timing).to_string(),
                false => generation.text.clone(),
            };
            bar.suspend(|| context.line(&line))?;
        }
        bar.inc(texts.len() as u64);
        all.extend(generations);
        total = total.then(timing);
    }
    bar.finish_and_clear();
    summary(context, &model, &all, &total);
    Ok(())
}
