//! What is done to a row of logits before a token is chosen, in the order of transformers.

use crate::error::Result;
use crate::weights::GenerationConfig;

/// Changes a row of logits by the tokens before it and by its position. A token that must not
/// come gets negative infinity.
#[derive(Clone, Debug)]
pub struct Processors {
    repetition_penalty: f32,
    ngram: usize,
    /// Bad words of one token, and the longer ones.
    banned: Vec<u32>,
    bad_words: Vec<Vec<u32>>,
    eos: Vec<u32>,
    min_length: usize,
    max_length: usize,
    prompt: usize,
    forced_bos: Option<u32>,
    forced_eos: Vec<u32>,
    remove_invalid: bool,
    suppress: Vec<u32>,
    begin_suppress: Vec<u32>,
    begin: usize,
    renormalize: bool,
}

impl Processors {
    /// What `config` asks for after a prompt of `prompt` tokens; in an encoder-decoder the
    /// prompt is the decoder's.
    ///
    /// An error when the configured length leaves no room for a token.
    pub fn new(config: &GenerationConfig, prompt: usize) -> Result<Self> {
        // A bad word that is an end token alone would keep the text from ending.
        let eos = &config.eos_token_id;
        let (single, longer): (Vec<_>, Vec<_>) =
            config.bad_words_ids.iter().cloned().partition(|word| word.len() == 1);
        let banned = single.into_iter().flatten().filter(|id| !eos.contains(id)).collect();
        // A forced first token after a prompt of one does not count as the beginning.
        let forced_first = prompt <= 1 && config.forced_bos_token_id.is_some();
        Ok(Self {
            repetition_penalty: config.repetition_penalty,
            ngram: config.no_repeat_ngram_size,
            banned,
            bad_words: longer,
            eos: eos.clone(),
            min_length: config.min_length_after(prompt),
            max_length: config.max_length_after(prompt)?,
            prompt,
            forced_bos: config.forced_bos_token_id,
            forced_eos: config.forced_eos_token_id.clone(),
            remove_invalid: config.remove_invalid_values,
            suppress: config.suppress_tokens.clone(),
            begin_suppress: config.begin_suppress_tokens.clone(),
            begin: prompt + usize::from(forced_first),
            renormalize: config.renormalize_logits,
        })
    }

    /// The length at which generation stops, prompt included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Whether every row stays as it is, so that the best token, or one drawn by temperature,
    /// top-k and top-p, can be taken from the raw logits.
    pub fn is_trivial(&self) -> bool {
        !self.reads_tokens()
            && self.banned.is_empty()
            && (self.eos.is_empty() || self.min_length <= self.prompt)
            && (self.forced_bos.is_none() || self.prompt != 1)
            && self.forced_eos.is_empty()
            && self.suppress.is_empty()
            && self.begin_suppress.is_empty()
    }

    /// What to add to the `vocab` logits that follow `length` tokens, 0 or negative infinity
    /// each; `None` if that depends on more than the length, so that only
    /// [`apply`](Self::apply) can tell.
    pub fn mask(&self, length: usize, vocab: usize) -> Option<Vec<f32>> {
        // Several forced tokens all get the same logit, which adding cannot do.
        if self.reads_tokens() || self.forced_eos.len() > 1 {
            return None;
        }
        let mut mask = vec![0.0; vocab];
        self.apply_by_position(length, &mut mask);
        Some(mask)
    }

    /// Whether anything depends on the tokens before or on the logits themselves.
    fn reads_tokens(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.ngram > 0
            || !self.bad_words.is_empty()
            || self.remove_invalid
            || self.renormalize
    }

    /// Changes the logits of the token that follows `ids`: prompt and generated tokens, or in an
    /// encoder-decoder those of the decoder. Padding is left out.
    pub fn apply(&self, ids: &[u32], logits: &mut [f32]) {
        self.penalize_repetition(ids, logits);
        self.ban_ngrams(ids, logits);
        for word in &self.bad_words {
            if let [before @ .., last] = word.as_slice()
                && ids.ends_with(before)
            {
                ban(&[*last], logits);
            }
        }
        self.apply_by_position(ids.len(), logits);
        if self.renormalize {
            log_softmax(logits);
        }
    }

    /// The part of [`apply`](Self::apply) for which the number of tokens is enough. Single
    /// tokens may be banned after longer words, since a ban commutes with a ban.
    fn apply_by_position(&self, length: usize, logits: &mut [f32]) {
        ban(&self.banned, logits);
        if length < self.min_length {
            ban(&self.eos, logits);
        }
        if length == 1 {
            force(self.forced_bos.as_slice(), logits);
        }
        if length + 1 == self.max_length {
            force(&self.forced_eos, logits);
        }
        if self.remove_invalid {
            for x in logits.iter_mut() {
                *x = if x.is_nan() { 0.0 } else { x.clamp(f32::MIN, f32::MAX) };
            }
        }
        ban(&self.suppress, logits);
        if length == self.begin {
            ban(&self.begin_suppress, logits);
        }
    }

    /// Keskar et al. 2019 (CTRL), section 4.1; negative logits are multiplied, so that the
    /// penalty always lowers.
    fn penalize_repetition(&self, ids: &[u32], logits: &mut [f32]) {
        let penalty = self.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        // Read before written: a token that occurs twice is penalised once.
        let penalized: Vec<(usize, f32)> = ids
            .iter()
            .filter_map(|id| {
                let x = *logits.get(*id as usize)?;
                Some((*id as usize, if x < 0.0 { x * penalty } else { x / penalty }))
            })
            .collect();
        for (id, x) in penalized {
            logits[id] = x;
        }
    }

    /// Bans every token that would complete a sequence of `ngram` tokens seen before.
    fn ban_ngrams(&self, ids: &[u32], logits: &mut [f32]) {
        if self.ngram == 0 || ids.len() < self.ngram {
            return;
        }
        let prefix = &ids[ids.len() + 1 - self.ngram..];
        for window in ids.windows(self.ngram) {
            if let [before @ .., last] = window
                && before == prefix
            {
                ban(&[*last], logits);
            }
        }
    }
}

fn ban(ids: &[u32], logits: &mut [f32]) {
    for id in ids {
        if let Some(x) = logits.get_mut(*id as usize) {
            *x = f32::NEG_INFINITY;
        }
    }
}

/// Leaves only these tokens, all alike; does nothing for none.
fn force(ids: &[u32], logits: &mut [f32]) {
    if ids.is_empty() {
        return;
    }
    logits.fill(f32::NEG_INFINITY);
    for id in ids {
        if let Some(x) = logits.get_mut(*id as usize) {
            *x = 0.0;
        }
    }
}

/// x - log(sum(exp(x))) in place. A row without a finite value stays as it is; an infinite logit
/// counts as the largest finite one, and NaN as nothing.
pub(super) fn log_softmax(row: &mut [f32]) {
    let finite = |x: f32| f64::from(x.min(f32::MAX));
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return;
    }
    let max = finite(max);
    let sum: f64 = row.iter().filter(|x| !x.is_nan()).map(|x| (finite(*x) - max).exp()).sum();
    let log_sum = max + sum.ln();
    for x in row.iter_mut().filter(|x| !x.is_nan()) {
        *x = (finite(*x) - log_sum) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::{Processors, log_softmax};
    use crate::weights::GenerationConfig;

    const BANNED: f32 = f32::NEG_INFINITY;

    fn config(change: impl FnOnce(&mut GenerationConfig)) -> GenerationConfig {
        let mut config = GenerationConfig { max_new_tokens: Some(4), ..Default::default() };
        change(&mut config);
        config
    }

    /// A row of five logits after `ids`, of which the first `prompt` are the prompt.
    fn processed(config: &GenerationConfig, prompt: usize, ids: &[u32]) -> Vec<f32> {
        let mut logits = vec![-2.0, 1.0, 0.5, -1.0, 4.0];
        Processors::new(config, prompt).unwrap().apply(ids, &mut logits);
        logits
    }

    #[test]
    fn nothing_is_asked_for_and_nothing_changes() {
        let plain = config(|_| {});
        assert_eq!(processed(&plain, 2, &[1, 2, 3]), [-2.0, 1.0, 0.5, -1.0, 4.0]);
        assert!(Processors::new(&plain, 2).unwrap().is_trivial());
    }

    #[test]
    fn repetition_lowers_each_token_seen_once() {
        let penalty = config(|c| c.repetition_penalty = 2.0);
        assert_eq!(processed(&penalty, 1, &[0, 1, 1, 0, 9]), [-4.0, 0.5, 0.5, -1.0, 4.0]);
    }

    #[test]
    fn ngrams_are_not_repeated() {
        let ngram = |n| config(|c| c.no_repeat_ngram_size = n);
        let bigram = processed(&ngram(2), 1, &[1, 2, 1, 4, 3, 1]);
        assert_eq!(bigram, [-2.0, 1.0, BANNED, -1.0, BANNED]);
        let unigram = processed(&ngram(1), 1, &[0, 4, 4]);
        assert_eq!(unigram, [BANNED, 1.0, 0.5, -1.0, BANNED]);
        let trigram = processed(&ngram(3), 1, &[1, 2, 3, 0, 1, 2]);
        assert_eq!(trigram, [-2.0, 1.0, 0.5, BANNED, 4.0]);
        // Shorter than the n-gram: nothing is complete yet.
        assert_eq!(processed(&ngram(4), 1, &[1, 1, 1]), [-2.0, 1.0, 0.5, -1.0, 4.0]);
    }

    #[test]
    fn bad_words_and_the_end_token_among_them() {
        let words = config(|c| {
            c.eos_token_id = vec![2];
            c.bad_words_ids = vec![vec![0], vec![2], vec![3, 1], vec![3, 1, 4], vec![1, 1, 1, 3]];
        });
        assert_eq!(processed(&words, 1, &[4, 3]), [BANNED, BANNED, 0.5, -1.0, 4.0]);
        assert_eq!(processed(&words, 1, &[3, 1]), [BANNED, 1.0, 0.5, -1.0, BANNED]);
        // The words' beginnings are longer than what there is.
        assert_eq!(processed(&words, 1, &[1]), [BANNED, 1.0, 0.5, -1.0, 4.0]);
    }

    #[test]
    fn no_end_before_the_minimal_length() {
        let minimum = config(|c| {
            c.eos_token_id = vec![1, 4];
            c.min_length = 3;
        });
        assert_eq!(processed(&minimum, 1, &[0, 0]), [-2.0, BANNED, 0.5, -1.0, BANNED]);
        assert_eq!(processed(&minimum, 1, &[0, 0, 0]), [-2.0, 1.0, 0.5, -1.0, 4.0]);
        let new = config(|c| {
            c.eos_token_id = vec![1];
            c.min_length = 99;
            c.min_new_tokens = Some(1);
        });
        assert_eq!(processed(&new, 2, &[0, 0])[1], BANNED);
        assert_eq!(processed(&new, 2, &[0, 0, 0])[1], 1.0);
    }

    #[test]
    fn forced_first_and_last_tokens() {
        let forced = config(|c| {
            c.forced_bos_token_id = Some(3);
            c.forced_eos_token_id = vec![0, 2];
        });
        assert_eq!(processed(&forced, 1, &[4]), [BANNED, BANNED, BANNED, 0.0, BANNED]);
        assert_eq!(processed(&forced, 1, &[4, 3]), [-2.0, 1.0, 0.5, -1.0, 4.0]);
        // Four new tokens after one: the last follows four.
        assert_eq!(processed(&forced, 1, &[4, 3, 1, 1]), [0.0, BANNED, 0.0, BANNED, BANNED]);
        // With a longer prompt there is no first token to force.
        assert_eq!(processed(&forced, 2, &[4, 4]), [-2.0, 1.0, 0.5, -1.0, 4.0]);
    }

    #[test]
    fn suppressed_tokens_also_lose_against_invalid_values_repaired() {
        let suppressed = config(|c| {
            c.suppress_tokens = vec![0];
            c.begin_suppress_tokens = vec![4];
            c.bad_words_ids = vec![vec![3]];
            c.remove_invalid_values = true;
        });
        assert_eq!(processed(&suppressed, 2, &[1, 1]), [BANNED, 1.0, 0.5, f32::MIN, BANNED]);
        assert_eq!(processed(&suppressed, 2, &[1, 1, 1]), [BANNED, 1.0, 0.5, f32::MIN, 4.0]);
        let mut invalid = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0];
        let repair = config(|c| c.remove_invalid_values = true);
        Processors::new(&repair, 1).unwrap().apply(&[0, 0], &mut invalid);
        assert_eq!(invalid, [0.0, f32::MAX, f32::MIN, 1.0]);
    }

    #[test]
    fn the_beginning_comes_after_a_forced_first_token() {
        let both = config(|c| {
            c.forced_bos_token_id = Some(3);
            c.begin_suppress_tokens = vec![4];
        });
        assert_eq!(processed(&both, 1, &[0])[3], 0.0);
        assert_eq!(processed(&both, 1, &[0, 3])[4], BANNED);
        assert_eq!(processed(&both, 1, &[0, 3, 1])[4], 4.0);
        assert_eq!(processed(&both, 2, &[0, 1])[4], BANNED);
    }

    #[test]
    fn renormalised_logits_are_log_probabilities() {
        let normal = config(|c| {
            c.renormalize_logits = true;
            c.suppress_tokens = vec![4];
        });
        let row = processed(&normal, 1, &[0]);
        let sum: f32 = row.iter().map(|x| x.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6 && row[4] == BANNED, "{row:?}");
    }

    #[test]
    fn trivial_is_what_can_never_change_a_row() {
        let trivial = |prompt, change: fn(&mut GenerationConfig)| {
            Processors::new(&config(change), prompt).unwrap().is_trivial()
        };
        assert!(trivial(5, |c| {
            c.do_sample = true;
            c.eos_token_id = vec![1];
            c.min_length = 5;
            c.forced_bos_token_id = Some(1);
        }));
        assert!(trivial(1, |c| c.min_length = 3), "without an end token there is none to ban");
        assert!(!trivial(1, |c| c.forced_bos_token_id = Some(1)));
        assert!(!trivial(5, |c| {
            c.eos_token_id = vec![1];
            c.min_length = 6;
        }));
        assert!(!trivial(5, |c| c.forced_eos_token_id = vec![1]));
        assert!(!trivial(5, |c| c.bad_words_ids = vec![vec![1]]));
        assert!(!trivial(5, |c| c.bad_words_ids = vec![vec![1, 2]]));
        assert!(!trivial(5, |c| c.repetition_penalty = 1.1));
        assert!(!trivial(5, |c| c.no_repeat_ngram_size = 2));
        assert!(!trivial(5, |c| c.suppress_tokens = vec![1]));
        assert!(!trivial(5, |c| c.begin_suppress_tokens = vec![1]));
        assert!(!trivial(5, |c| c.renormalize_logits = true));
        assert!(!trivial(5, |c| c.remove_invalid_values = true));
    }

    #[test]
    fn a_mask_says_the_same_where_the_length_is_enough() {
        let marian = config(|c| {
            c.eos_token_id = vec![0];
            c.bad_words_ids = vec![vec![3]];
            c.forced_eos_token_id = vec![0];
            c.min_new_tokens = Some(2);
        });
        let processors = Processors::new(&marian, 1).unwrap();
        assert_eq!(processors.mask(1, 5).unwrap(), [BANNED, 0.0, 0.0, BANNED, 0.0]);
        assert_eq!(processors.mask(3, 5).unwrap(), [0.0, 0.0, 0.0, BANNED, 0.0]);
        assert_eq!(processors.mask(4, 5).unwrap(), [0.0, BANNED, BANNED, BANNED, BANNED]);
        let reads = Processors::new(&config(|c| c.repetition_penalty = 2.0), 1).unwrap();
        assert_eq!(reads.mask(1, 5), None);
    }

    #[test]
    fn log_softmax_of_extremes() {
        let mut row = [1000.0, 1000.0, -1000.0, f32::NEG_INFINITY];
        log_softmax(&mut row);
        assert!((row[0] + std::f32::consts::LN_2).abs() < 1e-6, "{row:?}");
        assert_eq!(row[2..], [-2000.0 - std::f32::consts::LN_2, f32::NEG_INFINITY]);
        let mut none = [f32::NEG_INFINITY; 2];
        log_softmax(&mut none);
        assert_eq!(none, [f32::NEG_INFINITY; 2]);
    }
}
