//! Beam search, as transformers 5 does it.
//!
//! Each step takes the best continuations of all running beams together. Those that end are
//! finished hypotheses, scored by log probability / length^penalty; the best of the others run
//! on. Scores are f32 sums and use the same large negative number for what must not be taken, so
//! that the comparisons come out alike.

use super::processors::{Processors, log_softmax};
use super::sampler::nothing_left;
use super::stop::FinishReason;
use crate::error::{Error, Result};
use crate::weights::{EarlyStopping, GenerationConfig};

/// Added to the score of what must not be taken.
const EXCLUDED: f32 = -1e9;

/// How the running beams of the next step follow from the present ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeamStep {
    /// For each beam of the next step, the present beam that it continues: the cache row to copy.
    pub parents: Vec<usize>,
    /// For each beam of the next step, its new token: the next input.
    pub tokens: Vec<u32>,
    /// Whether the search is over; then there is no next step.
    pub done: bool,
}

/// A text that beam search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// New tokens, without the prompt; the end token included where there is one.
    pub ids: Vec<u32>,
    /// Log probability / length^`length_penalty`.
    pub score: f32,
}

#[derive(Clone, Debug)]
struct Beam {
    /// Prompt and generated tokens.
    ids: Vec<u32>,
    /// Sum of log probabilities.
    score: f32,
}

/// A continuation of a running beam by one token.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: f32,
    beam: usize,
    token: u32,
}

/// The beam search of one input. The caller runs the model and holds the caches: each step takes
/// the logits of all beams and says how to permute the caches.
#[derive(Clone, Debug)]
pub struct BeamSearch {
    processors: Processors,
    eos: Vec<u32>,
    length_penalty: f32,
    early_stopping: EarlyStopping,
    prompt: usize,
    running: Vec<Beam>,
    /// Best first, at most as many as there are beams.
    finished: Vec<Hypothesis>,
    done: bool,
}

impl BeamSearch {
    /// A search that continues `prompt`; in an encoder-decoder that is the decoder's prompt.
    ///
    /// An error when the prompt leaves no room for a new token, or a number of the configuration
    /// is out of range.
    pub fn new(config: &GenerationConfig, prompt: &[u32]) -> Result<Self> {
        config.decoding()?;
        // The beams begin alike; only the first one's continuations count in the first step.
        let beam = |i| Beam { ids: prompt.to_vec(), score: if i == 0 { 0.0 } else { EXCLUDED } };
        Ok(Self {
            processors: Processors::new(config, prompt.len())?,
            eos: config.eos_token_id.clone(),
            length_penalty: config.length_penalty,
            early_stopping: config.early_stopping,
            prompt: prompt.len(),
            running: (0..config.num_beams).map(beam).collect(),
            finished: Vec::new(),
            done: false,
        })
    }

    /// The number of beams.
    pub fn beams(&self) -> usize {
        self.running.len()
    }

    /// Prompt and generated tokens of a running beam.
    pub fn ids(&self, beam: usize) -> Option<&[u32]> {
        self.running.get(beam).map(|beam| beam.ids.as_slice())
    }

    /// Whether the search is over.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the raw logits that follow each running beam, in their order. Before the first step
    /// all beams are alike, and one row is enough; the parents are then all 0.
    ///
    /// Errors: another number of rows; a vocabulary of fewer tokens than one beam may need as
    /// continuations; a row without any token left; a search that is over.
    pub fn advance(&mut self, logits: &[&[f32]]) -> Result<BeamStep> {
        let beams = self.running.len();
        let length = self.running.first().map_or(0, |beam| beam.ids.len());
        let first = length == self.prompt;
        if self.done {
            return Err(Error::op("beam search", "a step after the search is over"));
        }
        if logits.len() != beams && !(first && logits.len() == 1) {
            return Err(Error::op(
                "beam search",
                format!("logits of {} beams; expected those of {beams}", logits.len()),
            ));
        }
        // Every end token may be among the best of every beam, and as many beams must run on.
        let per_beam = (1 + self.eos.len()).max(2);
        let mut best = Best::new(per_beam * beams);
        for (i, beam) in self.running.iter().enumerate() {
            let row = logits[i.min(logits.len() - 1)];
            if row.len() < per_beam {
                return Err(Error::op(
                    "beam search",
                    format!("{} logits per beam; expected at least {per_beam}", row.len()),
                ));
            }
            let mut row = row.to_vec();
            if !row.iter().any(|x| x.is_finite()) {
                return Err(nothing_left(&row));
            }
            log_softmax(&mut row);
            self.processors.apply(&beam.ids, &mut row);
            for (token, log_probability) in row.iter().enumerate() {
                let score = beam.score + log_probability;
                best.offer(Candidate { score, beam: i, token: token as u32 });
            }
        }
        let candidates = best.sorted;
        let max_length = self.processors.max_length();
        let ends = |candidate: &Candidate| {
            FinishReason::of(candidate.token, length + 1, &self.eos, max_length).is_some()
        };
        let all_end = candidates.iter().all(ends);

        // Only the best as many as there are beams may finish; the rest are there to run on.
        let divisor = power(length + 1 - self.prompt, self.length_penalty);
        for candidate in candidates.iter().take(beams).filter(|candidate| ends(candidate)) {
            let mut ids = self.running[candidate.beam].ids[self.prompt..].to_vec();
            ids.push(candidate.token);
            self.finished.push(Hypothesis { ids, score: candidate.score / divisor });
        }
        self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.finished.truncate(beams);

        let mut next: Vec<Candidate> = candidates
            .iter()
            .map(|c| Candidate { score: c.score + if ends(c) { EXCLUDED } else { 0.0 }, ..*c })
            .collect();
        next.sort_by(|a, b| b.score.total_cmp(&a.score));
        next.truncate(beams);
        self.running = next
            .iter()
            .map(|candidate| {
                let mut ids = self.running[candidate.beam].ids.clone();
                ids.push(candidate.token);
                Beam { ids, score: candidate.score }
            })
            .collect();

        let enough = self.early_stopping == EarlyStopping::Yes && self.finished.len() == beams;
        self.done = all_end || enough || !self.can_improve(length + 1);
        Ok(BeamStep {
            parents: next.iter().map(|c| if logits.len() == 1 { 0 } else { c.beam }).collect(),
            tokens: next.iter().map(|c| c.token).collect(),
            done: self.done,
        })
    }

    /// Whether the best running beam may still beat the worst finished hypothesis. With a length
    /// penalty that is a guess, made by the present length, or by the longest possible where the
    /// search is to stop only when nothing can come of it.
    fn can_improve(&self, length: usize) -> bool {
        let longest = self.early_stopping == EarlyStopping::Never && self.length_penalty > 0.0;
        let length = if longest { self.processors.max_length() } else { length };
        let Some(best) = self.running.first() else { return false };
        let possible = best.score / power(length - self.prompt, self.length_penalty);
        let worst = match self.finished.last() {
            Some(worst) if self.finished.len() == self.running.len() => worst.score,
            _ => EXCLUDED,
        };
        possible > worst
    }

    /// The hypotheses, best first; after a search that was broken off also the running beams as
    /// they are.
    pub fn finish(mut self) -> Vec<Hypothesis> {
        if !self.done || self.finished.is_empty() {
            let prompt = self.prompt;
            // Beams that only fill up the number are copies of the first.
            let real = self.running.into_iter().filter(|beam| beam.score > EXCLUDED / 2.0);
            self.finished.extend(real.map(|beam| {
                let divisor = power((beam.ids.len() - prompt).max(1), self.length_penalty);
                Hypothesis { score: beam.score / divisor, ids: beam.ids[prompt..].to_vec() }
            }));
            self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        }
        self.finished
    }
}

/// length^penalty, in the precision of the scores.
fn power(length: usize, penalty: f32) -> f32 {
    (length as f64).powf(f64::from(penalty)) as f32
}

/// The best candidates seen, in order; of equal ones the first seen goes first.
struct Best {
    sorted: Vec<Candidate>,
    capacity: usize,
}

impl Best {
    fn new(capacity: usize) -> Self {
        Self { sorted: Vec::with_capacity(capacity + 1), capacity }
    }

    fn offer(&mut self, candidate: Candidate) {
        // NaN is worse than anything.
        let score = if candidate.score.is_nan() { f32::NEG_INFINITY } else { candidate.score };
        if self.sorted.len() == self.capacity
            && self.sorted.last().is_none_or(|worst| score <= worst.score)
        {
            return;
        }
        let at = self.sorted.partition_point(|other| other.score >= score);
        self.sorted.insert(at, Candidate { score, ..candidate });
        self.sorted.truncate(self.capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::{BeamSearch, BeamStep, Best, Candidate};
    use crate::weights::GenerationConfig;

    fn config(change: impl FnOnce(&mut GenerationConfig)) -> GenerationConfig {
        let mut config = GenerationConfig {
            num_beams: 2,
            max_new_tokens: Some(3),
            eos_token_id: vec![0],
            ..Default::default()
        };
        change(&mut config);
        config
    }

    /// Log probabilities of four tokens, as logits that are already normalised.
    fn row(probabilities: [f32; 4]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn a_worse_first_token_wins_with_its_continuation() {
        let mut search = BeamSearch::new(&config(|_| {}), &[1]).unwrap();
        let first = row([0.01, 0.50, 0.39, 0.10]);
        let step = search.advance(&[&first]).unwrap();
        assert_eq!(step, BeamStep { parents: vec![0, 0], tokens: vec![1, 2], done: false });
        assert_eq!((search.ids(0).unwrap(), search.ids(1).unwrap()), (&[1, 1][..], &[1, 2][..]));
        let (flat, sharp) = (row([0.25; 4]), row([0.02, 0.02, 0.02, 0.94]));
        let step = search.advance(&[&flat, &sharp]).unwrap();
        assert_eq!((&*step.parents, &*step.tokens), (&[1, 0][..], &[3, 1][..]));
        let end = row([0.97, 0.01, 0.01, 0.01]);
        let step = search.advance(&[&end, &flat]).unwrap();
        assert!(step.done && search.is_done());
        let found = search.finish();
        assert_eq!(found[0].ids, [2, 3, 0]);
        let expected = (0.39f32.ln() + 0.94f32.ln() + 0.97f32.ln()) / 3.0;
        assert!((found[0].score - expected).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn one_row_or_all_rows_begin_alike() {
        let mut all = BeamSearch::new(&config(|_| {}), &[1, 3]).unwrap();
        let mut one = all.clone();
        let first = row([0.1, 0.2, 0.3, 0.4]);
        let from_all = all.advance(&[&first, &first]).unwrap();
        assert_eq!(one.advance(&[&first]).unwrap(), from_all);
        assert_eq!(from_all.tokens, [3, 2]);
    }

    #[test]
    fn a_search_broken_off_gives_what_runs() {
        let mut search = BeamSearch::new(&config(|_| {}), &[1]).unwrap();
        assert_eq!(search.clone().finish()[0].ids, Vec::<u32>::new());
        search.advance(&[&row([0.1, 0.2, 0.3, 0.4])]).unwrap();
        let ids: Vec<_> = search.finish().into_iter().map(|found| found.ids).collect();
        assert_eq!(ids, [[3], [2]]);
    }

    #[test]
    fn wrong_rows_are_errors() {
        let mut search = BeamSearch::new(&config(|_| {}), &[1]).unwrap();
        let good = row([0.1, 0.2, 0.3, 0.4]);
        let mut fails = |rows: &[&[f32]]| search.advance(rows).unwrap_err().to_string();
        assert!(fails(&[]).contains("logits of 0 beams; expected those of 2"));
        assert!(fails(&[&good, &good, &good]).contains("logits of 3 beams"));
        assert!(fails(&[&good[..1]]).contains("1 logits per beam; expected at least 2"));
        assert!(fails(&[&[f32::NAN; 4]]).contains("no token is left"));
        search.advance(&[&good]).unwrap();
        assert!(search.advance(&[&good]).is_err(), "one row is for the first step only");
        while !search.advance(&[&good, &good]).unwrap().done {}
        assert!(search.advance(&[&good, &good]).unwrap_err().to_string().contains("is over"));
    }

    #[test]
    fn configurations_that_cannot_run_are_errors() {
        let fails = |change: fn(&mut GenerationConfig)| {
            BeamSearch::new(&config(change), &[1]).unwrap_err().to_string()
        };
        assert!(fails(|c| c.do_sample = true).contains("`do_sample` with `num_beams` 2"));
        assert!(fails(|c| c.length_penalty = f32::NAN).contains("`length_penalty` is NaN"));
        let full = fails(|c| {
            c.max_new_tokens = None;
            c.max_length = Some(1);
        });
        assert!(full.contains("`max_length` is 1"));
    }

    #[test]
    fn infinite_and_missing_logits_neither_crash_nor_win() {
        let mut search = BeamSearch::new(&config(|_| {}), &[1]).unwrap();
        let odd = [f32::NAN, 2.0, f32::NEG_INFINITY, 1.0];
        let step = search.advance(&[&odd]).unwrap();
        assert_eq!(step.tokens, [1, 3]);
        let step = search.advance(&[&[f32::INFINITY, 0.0, 0.0, 0.0], &odd]).unwrap();
        assert!(!step.tokens.contains(&0), "token 0 ends the first beam");
        assert_eq!(search.finish()[0].ids, [1, 0]);
    }

    #[test]
    fn the_best_are_kept_in_order_and_the_first_of_equals() {
        let mut best = Best::new(3);
        for (token, score) in [1.0, f32::NAN, 3.0, 1.0, 2.0, 3.0].into_iter().enumerate() {
            best.offer(Candidate { score, beam: 0, token: token as u32 });
        }
        let kept: Vec<_> = best.sorted.iter().map(|c| (c.token, c.score)).collect();
        assert_eq!(kept, [(2, 3.0), (5, 3.0), (4, 2.0)]);
    }
}
