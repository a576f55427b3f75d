//! Text generation: a prompt is continued by a decoder, or answered by an encoder-decoder.

use std::ops::ControlFlow;
use std::path::Path;

use super::decoding::{BeamSearch, FinishReason, Processors, Sampler};
use super::rows::{Generation, Row};
use super::timing::{Clock, Timing};
use crate::engine::{Capacity, Device, Generator};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::graph::Progress;
use crate::models::{BuildOptions, Kind, ModelInfo, UNLIMITED};
use crate::ops::Sampling;
use crate::tensor::{DType, Tensor};
use crate::text::Tokenizer;
use crate::weights::{Config, Decoding, GenerationConfig};

/// How a model is opened for generation.
#[derive(Clone, Copy, Debug)]
pub struct GenerateOptions {
    /// Storage of weights; `None` keeps the file's.
    pub dtype: Option<Format>,
    /// Prompt and result take at most so many tokens; `None` for the model's own limit.
    pub max_tokens: Option<usize>,
    /// Storage of kept keys and values: f32, or f16 at half the memory and traffic.
    pub cache: DType,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { dtype: None, max_tokens: None, cache: DType::F32 }
    }
}

/// What is told while text is generated.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Weights are loaded.
    Loading(Progress<'a>),
    /// Text that follows a prompt, by the prompt's index: put behind the prompt, its pieces make
    /// up the whole.
    Text(usize, &'a str),
}

/// A generating model and its tokenizer.
///
/// ```no_run
/// use tilewright::engine::Device;
/// use tilewright::tasks::{GenerateOptions, TextGenerator};
///
/// let options = GenerateOptions::default();
/// let model = TextGenerator::open("assets/models/storyteller", Device::cpu(), options)?;
/// let stories = model.generate(&["Once upon a time"], model.config(), 0)?;
/// println!("{}", stories[0].text);
/// # Ok::<(), tilewright::Error>(())
/// ```
pub struct TextGenerator {
    tokenizer: Tokenizer,
    generator: Generator,
    model: Config,
    config: GenerationConfig,
}

impl TextGenerator {
    /// Opens a model folder. Weights are read at the first generation.
    pub fn open(
        folder: impl AsRef<Path>,
        device: Device,
        options: GenerateOptions,
    ) -> Result<Self> {
        let folder = folder.as_ref();
        let GenerateOptions { dtype, max_tokens, cache } = options;
        let build = BuildOptions { dtype, max_tokens, cache, ..BuildOptions::default() };
        let generator = Generator::open(folder, device, &build)?;
        let tokenizer = Tokenizer::open(folder)?;
        tokenizer.check_vocab(generator.info().vocab_size)?;
        let model = Config::open(folder)?;
        let config = GenerationConfig::open(folder, &model, generator.info().output_vocab_size())?;
        Ok(Self { tokenizer, generator, model, config })
    }

    /// The folder's own way of generating.
    pub fn config(&self) -> &GenerationConfig {
        &self.config
    }

    /// Another way of generating: a file or JSON text that replaces the folder's whole.
    pub fn parse_config(&self, argument: &str) -> Result<GenerationConfig> {
        let vocab = self.info().output_vocab_size();
        GenerationConfig::from_argument(argument, &self.model, vocab)
    }

    /// What `task_specific_params` of the model's config puts in front of a text, for the tasks
    /// whose name begins with `task`, such as `translation` for `translation_en_to_de`; `None`
    /// when it says nothing, the first when it names several.
    pub fn task_prefix(&self, task: &str) -> Result<Option<String>> {
        let Some(tasks) = self.model.section("task_specific_params")? else { return Ok(None) };
        for name in tasks.keys().filter(|name| name.starts_with(task)) {
            let Some(one) = tasks.section(name)? else { continue };
            if let Some(prefix) = one.opt_str("prefix")? {
                return Ok(Some(prefix.to_owned()));
            }
        }
        Ok(None)
    }

    /// What to tell the caller of prompts longer than any that the model was trained on, where
    /// relative positions let it take them all the same: the tokenizer's `model_max_length`, or
    /// `n_positions` of the model's config, says how long those were.
    pub fn length_notice(&self, prompts: &[Vec<u32>]) -> Result<Option<String>> {
        let trained = match self.tokenizer.max_length() {
            Some(most) => Some(most),
            None => self.model.opt_usize("n_positions", 1..=UNLIMITED)?,
        };
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        Ok(trained.filter(|&most| longest > most).map(|most| {
            format!("a text has {longest} tokens; the model was trained on at most {most}")
        }))
    }

    /// Sizes of the model.
    pub fn info(&self) -> &ModelInfo {
        self.generator.info()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The model without its tokenizer.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// Continues each prompt, or answers it; the same seed gives the same text on the same
    /// device. Errors: an empty prompt, a prompt that fills the model's context, numbers of the
    /// configuration that are out of range.
    pub fn generate<S: AsRef<str>>(
        &self,
        prompts: &[S],
        config: &GenerationConfig,
        seed: u64,
    ) -> Result<Vec<Generation>> {
        let ids = self.encode(prompts, true)?;
        Ok(self.generate_ids(&ids, config, seed, &mut |_| ControlFlow::Continue(()))?.0)
    }

    /// Ids of prompts, with the tokenizer's special tokens around them if `special`.
    pub fn encode<S: AsRef<str>>(&self, prompts: &[S], special: bool) -> Result<Vec<Vec<u32>>> {
        let encode = |prompt: &S| {
            let ids = self.tokenizer.encode(prompt.as_ref(), special)?.ids;
            // What an encoder of its own needs as least input, a decoder can begin with.
            match (ids.is_empty(), self.config.bos_token_id) {
                (true, Some(bos)) if special => Ok(vec![bos]),
                (true, _) => Err(Error::Argument(
                    "an empty prompt: the tokenizer makes no token of it; at least one is needed"
                        .to_owned(),
                )),
                (false, _) => Ok(ids),
            }
        };
        prompts.iter().map(encode).collect()
    }

    /// The same from ids, with the times, and a callback that may end it early with `Break`:
    /// what was generated until then is the result.
    pub fn generate_ids(
        &self,
        prompts: &[Vec<u32>],
        config: &GenerationConfig,
        seed: u64,
        event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(Vec<Generation>, Timing)> {
        let unwritten = |prompt: &Vec<u32>| Generation {
            text: String::new(),
            ids: Vec::new(),
            finish: FinishReason::Length,
            prompt_tokens: prompt.len(),
            score: None,
        };
        let mut all: Vec<_> = prompts.iter().map(unwritten).collect();
        let mut timing: Option<Timing> = None;
        let mut stopped = false;
        for group in self.groups(prompts, config)? {
            if stopped {
                break;
            }
            let ids: Vec<_> = group.iter().map(|&i| prompts[i].clone()).collect();
            let mut of_group = |e: Event<'_>| {
                let flow = match e {
                    Event::Text(i, text) => event(Event::Text(group[i], text)),
                    loading => event(loading),
                };
                stopped |= flow.is_break();
                flow
            };
            let (generations, took) = self.generate_together(&ids, config, seed, &mut of_group)?;
            timing = Some(timing.map_or(took, |before| before.then(took)));
            for (i, generation) in group.into_iter().zip(generations) {
                all[i] = generation;
            }
        }
        Ok((all, timing.unwrap_or_default()))
    }

    /// Prompts that are continued together: as a rule all of them. One that fills most of the
    /// model's context would cut the others short, so it goes apart from those that need more.
    fn groups(&self, prompts: &[Vec<u32>], config: &GenerationConfig) -> Result<Vec<Vec<usize>>> {
        let mut rest: Vec<usize> = (0..prompts.len()).collect();
        let mut groups = Vec::new();
        while let Some(longest) = rest.iter().map(|&i| prompts[i].len()).max() {
            let most = self.info().max_output_tokens();
            let room = most.saturating_sub(longest);
            let mut later = Vec::new();
            if self.info().kind != Kind::EncoderDecoder {
                for &i in &rest {
                    let len = prompts[i].len();
                    if (config.max_length_after(len)? - len).min(most.saturating_sub(len)) > room {
                        later.push(i);
                    }
                }
                rest.retain(|i| !later.contains(i));
            }
            groups.push(std::mem::replace(&mut rest, later));
        }
        Ok(groups)
    }

    fn generate_together(
        &self,
        prompts: &[Vec<u32>],
        config: &GenerationConfig,
        seed: u64,
        event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(Vec<Generation>, Timing)> {
        let decoding = config.decoding()?;
        let behind_encoder = self.info().kind == Kind::EncoderDecoder;
        let (sources, starts) = if behind_encoder {
            let start = config.decoder_start()?;
            (prompts.to_vec(), vec![vec![start]; prompts.len()])
        } else {
            (Vec::new(), prompts.to_vec())
        };
        let job = Job { text: self, config, seed, sources, starts };
        let room = job.room()?;
        let beams = config.num_beams;
        let longest = |rows: &[Vec<u32>]| rows.iter().map(Vec::len).max().unwrap_or(0);
        let capacity = Capacity {
            batch: prompts.len() * beams,
            context: longest(&job.starts) + room,
            source: longest(&job.sources),
        };
        self.generator.reserve(capacity, &mut |progress| event(Event::Loading(progress)))?;
        let (mut generations, timing) = match decoding {
            Decoding::Beam => job.beam_search(room, event)?,
            _ => job.token_by_token(room, event)?,
        };
        for (generation, prompt) in generations.iter_mut().zip(prompts) {
            generation.prompt_tokens = prompt.len();
        }
        Ok((generations, timing))
    }
}

/// One call's work.
struct Job<'a> {
    text: &'a TextGenerator,
    config: &'a GenerationConfig,
    seed: u64,
    /// Encoder inputs; none without an encoder.
    sources: Vec<Vec<u32>>,
    /// What the decoder continues.
    starts: Vec<Vec<u32>>,
}

impl Job<'_> {
    /// The most new tokens of any prompt, as far as the model's context allows.
    fn room(&self) -> Result<usize> {
        let most = self.text.info().max_output_tokens();
        let mut room = 0;
        for start in &self.starts {
            let wanted = self.config.max_length_after(start.len())? - start.len();
            room = room.max(wanted);
        }
        let longest = self.starts.iter().map(Vec::len).max().unwrap_or(0);
        match most.saturating_sub(longest) {
            0 => Err(Error::Argument(format!(
                "a prompt of {longest} tokens leaves no room: the model takes at most {most}, \
                 prompt and result together"
            ))),
            left => Ok(room.min(left)),
        }
    }

    /// The configuration's draws, as the device makes them.
    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.config.temperature,
            top_k: u32::try_from(self.config.top_k).unwrap_or(0),
            top_p: self.config.top_p,
            min_p: self.config.min_p,
            seed: self.seed,
        }
    }

    fn rows(&self) -> Result<Vec<Row<'_>>> {
        let row = |start: &Vec<u32>| Row::new(&self.text.tokenizer, self.config, start);
        self.starts.iter().map(row).collect()
    }

    fn token_by_token(
        &self,
        room: usize,
        event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(Vec<Generation>, Timing)> {
        let mut rows = self.rows()?;
        let processors = self.starts.iter().map(|s| Processors::new(self.config, s.len()));
        let processors = processors.collect::<Result<Vec<_>>>()?;
        let mut sampler = Sampler::new(self.config, self.seed)?;
        let mut clock = Clock::start();
        let sampling = if sampler.is_greedy() { Sampling::GREEDY } else { self.sampling() };
        let mut decoding =
            self.text.generator.start(&self.sources, &self.starts, room, sampling)?;
        // Gives every row its id; breaks when all have ended.
        let mut failed = None;
        let mut accept = |ids: &[u32], clock: &mut Clock| -> ControlFlow<()> {
            clock.tick(rows.iter().filter(|row| row.finish().is_none()).count());
            for (i, (row, &id)) in rows.iter_mut().zip(ids).enumerate() {
                match row.push(id) {
                    Ok(piece) if piece.is_empty() => {}
                    Ok(piece) => event(Event::Text(i, &piece))?,
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            match rows.iter().all(|row| row.finish().is_some()) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let on_device = processors.iter().all(Processors::is_trivial);
        let (mut steps, mut steps_ahead) = (0, 1);
        if on_device {
            let stats = decoding.run_ahead(room, |ids| accept(ids, &mut clock))?;
            (steps, steps_ahead) = (stats.steps, stats.deepest);
        } else {
            let mut all: Vec<Vec<u32>> = self.starts.clone();
            let mut logits = decoding.prompt_logits()?;
            loop {
                let ids = choose(&logits, &all, &processors, &mut sampler)?;
                all.iter_mut().zip(&ids).for_each(|(row, &id)| row.push(id));
                if accept(&ids, &mut clock).is_break() || steps + 1 >= room {
                    break;
                }
                logits = decoding.next_logits(&ids)?;
                steps += 1;
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let timing = clock.timing(steps, steps_ahead);
        let mut generations = Vec::with_capacity(rows.len());
        for (i, row) in rows.into_iter().enumerate() {
            let (generation, rest) = row.end()?;
            if !rest.is_empty() {
                // Nothing is left to be ended early.
                let _ = event(Event::Text(i, &rest));
            }
            generations.push(generation);
        }
        Ok((generations, timing))
    }

    fn beam_search(
        &self,
        room: usize,
        event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(Vec<Generation>, Timing)> {
        let beams = self.config.num_beams;
        let repeat = |rows: &[Vec<u32>]| -> Vec<Vec<u32>> {
            rows.iter().flat_map(|row| std::iter::repeat_n(row.clone(), beams)).collect()
        };
        let (sources, starts) = (repeat(&self.sources), repeat(&self.starts));
        let searches = self.starts.iter().map(|start| BeamSearch::new(self.config, start));
        let mut searches = searches.collect::<Result<Vec<_>>>()?;
        let mut clock = Clock::start();
        let mut decoding = self.text.generator.start(&sources, &starts, room, Sampling::GREEDY)?;
        let mut logits = decoding.prompt_logits()?;
        let mut steps = 0;
        loop {
            let rows: Vec<&[f32]> = logits.as_f32()?.chunks_exact(logits.shape().last()).collect();
            clock.tick(searches.iter().filter(|s| !s.is_done()).count());
            // A search that is over keeps its rows as they are until all are.
            let mut parents: Vec<usize> = (0..rows.len()).collect();
            let mut tokens = vec![self.config.pad(); rows.len()];
            for (i, search) in searches.iter_mut().enumerate().filter(|(_, s)| !s.is_done()) {
                let own = i * beams..(i + 1) * beams;
                let step = search.advance(&rows[own.clone()])?;
                for ((row, parent), token) in own.zip(step.parents).zip(step.tokens) {
                    parents[row] = i * beams + parent;
                    tokens[row] = token;
                }
            }
            if searches.iter().all(BeamSearch::is_done) || steps + 1 >= room {
                break;
            }
            // Beams have no text to show before the end; the callback can still stop them.
            if event(Event::Text(0, "")).is_break() {
                break;
            }
            decoding.permute(&parents)?;
            logits = decoding.next_logits(&tokens)?;
            steps += 1;
        }
        let timing = clock.timing(steps, 1);
        let mut generations = Vec::with_capacity(searches.len());
        for (i, (search, start)) in searches.into_iter().zip(&self.starts).enumerate() {
            let best = search.finish().into_iter().next().ok_or_else(|| {
                Error::op("beam search", "found no text; the length limit leaves none")
            })?;
            let mut row = Row::new(&self.text.tokenizer, self.config, start)?;
            for &id in &best.ids {
                row.push(id)?;
            }
            let (generation, _) = row.end()?;
            // Nothing is left to be ended early.
            let _ = event(Event::Text(i, &generation.text));
            generations.push(Generation { score: Some(best.score), ..generation });
        }
        Ok((generations, timing))
    }
}

/// One id per row.
fn choose(
    logits: &Tensor,
    rows: &[Vec<u32>],
    processors: &[Processors],
    sampler: &mut Sampler,
) -> Result<Vec<u32>> {
    let width = logits.shape().last();
    let mut ids = Vec::with_capacity(rows.len());
    for ((row, logits), processors) in
        rows.iter().zip(logits.as_f32()?.chunks_exact(width)).zip(processors)
    {
        let mut logits = logits.to_vec();
        processors.apply(row, &mut logits);
        ids.push(sampler.sample(&logits)?);
    }
    Ok(ids)
}
