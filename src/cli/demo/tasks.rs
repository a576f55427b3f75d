//! What the shipped models are asked to do.

use std::ops::ControlFlow;
use std::time::Instant;

use super::held_out::{Asked, Expected, place};
use super::stage::Stage;
use crate::engine::{Device, Shipped};
use crate::error::{Error, Result};
use crate::tasks::{
    Aggregation, AnswerOptions, Answerer, Classifier, Event, FillMask, GenerateOptions, Tagger,
    TaskOptions, TextGenerator,
};
use crate::weights::GenerationConfig;

/// What became of a task's examples.
pub(super) struct Done {
    /// One per example, as it is printed.
    pub answers: Vec<String>,
    /// In the task's unit.
    pub speed: f64,
    /// How many are right of how many, where that can be told.
    pub score: Option<(usize, usize)>,
}

type Run = fn(&Stage<'_>, &Device, &Shipped, &[Asked]) -> Result<Done>;

/// A task of a shipped model.
pub(super) struct Task {
    pub name: &'static str,
    /// Name of the shipped model.
    pub model: &'static str,
    pub unit: &'static str,
    /// What of it is counted on held-out examples.
    pub measure: &'static str,
    /// Examples that the demo shows.
    pub shown: usize,
    pub run: Run,
}

const fn task(name: &'static str, model: &'static str, measure: &'static str, run: Run) -> Task {
    Task { name, model, unit: "tokens/s", measure, shown: 2, run }
}

const fn of_texts(task: Task) -> Task {
    Task { unit: "texts/s", ..task }
}

/// Every task, in the order they are shown.
pub(super) const TASKS: [Task; 7] = [
    Task { shown: 1, ..task("story", "storyteller", "", story) },
    of_texts(task("fill-mask", "reader", "the word among the best five", fill_mask)),
    of_texts(Task { shown: 3, ..task("sentiment", "sentiment", "label", sentiment) }),
    of_texts(task("entities", "entities", "entities, exactly", entities)),
    of_texts(task("answers", "answers", "answer, exactly", answers)),
    task("translation", "translator", "sentence, exactly", write),
    task("summary", "summarizer", "sentence, exactly", write),
];

/// Most tokens of a story.
const STORY: usize = 180;
/// Texts that are written at once.
const BATCH: usize = 16;
/// Best words of a mask that count.
const BEST: usize = 5;

fn questions(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|a| a.question.as_str()).collect()
}

/// Runs what can be repeated once to warm up and once for the time; texts per second.
fn timed<T>(texts: usize, mut run: impl FnMut() -> Result<T>) -> Result<(T, f64)> {
    run()?;
    let start = Instant::now();
    let result = run()?;
    Ok((result, texts as f64 / start.elapsed().as_secs_f64()))
}

fn options(shipped: &Shipped) -> TaskOptions {
    TaskOptions { head: shipped.head.clone(), ..TaskOptions::default() }
}

fn sentiment(_: &Stage<'_>, device: &Device, shipped: &Shipped, asked: &[Asked]) -> Result<Done> {
    let model = Classifier::open(&shipped.folder, device.clone(), &options(shipped))?;
    let (all, speed) = timed(asked.len(), || model.classify(&questions(asked)))?;
    let best = |c: &crate::tasks::Classification| c.labels.first().map(|l| l.label.clone());
    let answers: Vec<_> = all.iter().filter_map(best).collect();
    let right = asked.iter().zip(&answers).filter(|(a, answer)| a.expected.is(answer)).count();
    Ok(Done { score: Some((right, asked.len())), answers, speed })
}

fn fill_mask(_: &Stage<'_>, device: &Device, shipped: &Shipped, asked: &[Asked]) -> Result<Done> {
    let model = FillMask::open(&shipped.folder, device.clone(), &options(shipped))?;
    let (all, speed) = timed(asked.len(), || model.fill(&questions(asked), BEST))?;
    let mut right = 0;
    let mut answers = Vec::with_capacity(all.len());
    for (masks, asked) in all.iter().zip(asked) {
        let words = masks.iter().flat_map(|mask| &mask.candidates);
        let words: Vec<_> = words.map(|c| c.token.trim()).collect();
        right += usize::from(words.iter().any(|word| asked.expected.is(word)));
        answers.push(words.join(", "));
    }
    Ok(Done { score: Some((right, asked.len())), answers, speed })
}

/// Counts entities that are wanted or found: all of them are right where both agree exactly.
fn entities(_: &Stage<'_>, device: &Device, shipped: &Shipped, asked: &[Asked]) -> Result<Done> {
    let model = Tagger::open(&shipped.folder, device.clone(), &options(shipped))?;
    let tag = || model.tag(&questions(asked), Aggregation::First);
    let (all, speed) = timed(asked.len(), tag)?;
    let (mut right, mut of) = (0, 0);
    let mut answers = Vec::with_capacity(all.len());
    for (found, asked) in all.iter().zip(asked) {
        let places: Vec<_> = found.iter().map(place).collect();
        if let Expected::Entities(wanted) = &asked.expected {
            let hits = places.iter().filter(|p| wanted.contains(p)).count();
            right += hits;
            // Missed ones and ones that are not there count alike.
            of += wanted.len() + places.len() - hits;
        }
        let shown = found.iter().map(|e| format!("{} {}", e.label, e.text));
        answers.push(shown.collect::<Vec<_>>().join(", "));
    }
    Ok(Done { score: Some((right, of)), answers, speed })
}

fn answers(_: &Stage<'_>, device: &Device, shipped: &Shipped, asked: &[Asked]) -> Result<Done> {
    let model = Answerer::open(&shipped.folder, device.clone(), &options(shipped))?;
    let pairs: Vec<_> = asked.iter().map(|a| (a.question.as_str(), a.context())).collect();
    let (all, speed) = timed(asked.len(), || model.answer(&pairs, AnswerOptions::default()))?;
    let best = |answers: &Vec<crate::tasks::Answer>| answers.first().map(|a| a.answer.clone());
    let answers: Vec<_> = all.iter().filter_map(best).collect();
    let right = asked.iter().zip(&answers).filter(|(a, answer)| a.expected.is(answer)).count();
    Ok(Done { score: Some((right, asked.len())), answers, speed })
}

/// Generates for all examples, some at a time; texts, and new tokens per second.
fn generate(
    stage: &Stage<'_>,
    device: &Device,
    shipped: &Shipped,
    asked: &[Asked],
    configure: impl FnOnce(&mut GenerationConfig),
) -> Result<(Vec<String>, f64)> {
    let model = TextGenerator::open(&shipped.folder, device.clone(), GenerateOptions::default())?;
    let mut config = model.config().clone();
    configure(&mut config);
    let prompts = model.encode(&questions(asked), true)?;
    let mut texts = Vec::with_capacity(prompts.len());
    let (mut tokens, mut seconds) = (0.0, 0.0);
    for prompts in prompts.chunks(BATCH) {
        let mut event = |_: Event<'_>| -> ControlFlow<()> { stage.go_on() };
        let (all, timing) = model.generate_ids(prompts, &config, 0, &mut event)?;
        stage.context.check_cancelled()?;
        if timing.decode_tokens_per_s > 0.0 {
            let new = all.iter().map(|g| g.ids.len().saturating_sub(1)).sum::<usize>() as f64;
            tokens += new;
            seconds += new / timing.decode_tokens_per_s;
        }
        texts.extend(all.into_iter().map(|g| g.text.trim().to_owned()));
    }
    if texts.len() != asked.len() {
        return Err(Error::Argument("not every example was answered".to_owned()));
    }
    Ok((texts, if seconds > 0.0 { tokens / seconds } else { 0.0 }))
}

fn story(stage: &Stage<'_>, device: &Device, shipped: &Shipped, asked: &[Asked]) -> Result<Done> {
    // Greedy, so that two devices tell the same story.
    let greedy = |config: &mut GenerationConfig| {
        config.do_sample = false;
        config.num_beams = 1;
        config.max_new_tokens = Some(STORY);
    };
    let (answers, speed) = generate(stage, device, shipped, asked, greedy)?;
    Ok(Done { answers, speed, score: None })
}

fn write(stage: &Stage<'_>, device: &Device, shipped: &Shipped, asked: &[Asked]) -> Result<Done> {
    let (answers, speed) = generate(stage, device, shipped, asked, |_| ())?;
    let right = asked.iter().zip(&answers).filter(|(a, answer)| a.expected.is(answer)).count();
    Ok(Done { score: Some((right, asked.len())), answers, speed })
}
