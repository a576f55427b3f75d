//! The choice of one token from a row of logits: the best, or one drawn at random.

use crate::error::{Error, Result};
use crate::weights::{Decoding, GenerationConfig};

/// A small random number generator: SplitMix64 (Steele, Lea and Flood 2014). The same seed gives
/// the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator for this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, and not including, 1, in steps of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The first token of the highest logit. NaN never wins.
///
/// An error when every logit is NaN or negative infinity, so that there is nothing to choose.
pub fn greedy(logits: &[f32]) -> Result<u32> {
    let mut best = None;
    let mut highest = f32::NEG_INFINITY;
    for (id, x) in logits.iter().enumerate() {
        if *x > highest {
            (best, highest) = (Some(id as u32), *x);
        }
    }
    best.ok_or_else(|| nothing_left(logits))
}

/// The error for a row without any token to choose.
pub(super) fn nothing_left(logits: &[f32]) -> Error {
    let nan = logits.iter().filter(|x| x.is_nan()).count();
    Error::op(
        "sample",
        format!(
            "no token is left of {}: {nan} logits are NaN and {} are banned or negative infinity; expected a finite one",
            logits.len(),
            logits.len() - nan
        ),
    )
}

/// Chooses tokens as a [`GenerationConfig`] says: the best one, or one drawn after temperature,
/// top-k, top-p and min-p, in this order.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// 0 for greedy.
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    rng: Rng,
}

/// A token that may be drawn, and its probability times a constant.
type Weighted = (u32, f64);

impl Sampler {
    /// A sampler whose draws follow from `seed`.
    ///
    /// Errors: beam search, which takes a [`BeamSearch`](super::BeamSearch); a number out of
    /// range.
    pub fn new(config: &GenerationConfig, seed: u64) -> Result<Self> {
        let temperature = match config.decoding()? {
            Decoding::Greedy => 0.0,
            Decoding::Sample => config.temperature,
            Decoding::Beam => {
                return Err(Error::Argument(format!(
                    "`num_beams` is {}; expected 1 where one token is chosen at a time",
                    config.num_beams
                )));
            }
        };
        let (top_k, top_p, min_p) = (config.top_k, config.top_p, config.min_p);
        Ok(Self { temperature, top_k, top_p, min_p, rng: Rng::new(seed) })
    }

    /// Whether the best token is taken each time, so that nothing is drawn.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// The token for a row of logits. Each draw takes one number of the generator, whatever the
    /// row.
    ///
    /// An error when every logit is NaN or negative infinity.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        if self.is_greedy() {
            return greedy(logits);
        }
        let kept = self.kept(logits)?;
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut left = self.rng.unit() * total;
        for (id, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return Ok(*id);
            }
        }
        // Rounding may leave a little: the last token that has any weight gets it.
        let last = kept.iter().rev().find(|(_, weight)| *weight > 0.0);
        last.map(|(id, _)| *id).ok_or_else(|| nothing_left(logits))
    }

    /// The tokens that may be drawn, with weights of which the largest is 1.
    pub(super) fn kept(&self, logits: &[f32]) -> Result<Vec<Weighted>> {
        let max = logits[greedy(logits)? as usize].min(f32::MAX);
        let weight = |x: f32| {
            // An infinite logit counts as the largest finite one, or the difference is NaN.
            let below = f64::from(x.min(f32::MAX)) - f64::from(max);
            (below / f64::from(self.temperature)).exp()
        };
        let mut kept: Vec<Weighted> = logits
            .iter()
            .enumerate()
            .filter(|(_, x)| **x > f32::NEG_INFINITY)
            .map(|(id, x)| (id as u32, weight(*x)))
            .collect();
        if (1..kept.len()).contains(&self.top_k) {
            let (_, kth, _) = kept.select_nth_unstable_by(self.top_k - 1, best_first);
            let least = kth.1;
            // Tokens that are level with the last one stay, as they do in transformers.
            kept.retain(|(_, weight)| *weight >= least);
        }
        if self.top_p < 1.0 {
            nucleus(&mut kept, f64::from(self.top_p));
        }
        if self.min_p > 0.0 {
            // The best token's weight is 1.
            let least = f64::from(self.min_p);
            kept.retain(|(_, weight)| *weight >= least);
        }
        Ok(kept)
    }
}

/// By weight, and by id among equals, so that the order is the same everywhere.
fn best_first(a: &Weighted, b: &Weighted) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the fewest best tokens whose share reaches `top_p`, and at least one (Holtzman et al.
/// 2020), best first.
fn nucleus(kept: &mut Vec<Weighted>, top_p: f64) {
    let enough = top_p * kept.iter().map(|(_, weight)| weight).sum::<f64>();
    // Few tokens of a large vocabulary are needed as a rule: sort a part that grows.
    let mut sorted = 128;
    loop {
        let part = sorted.min(kept.len());
        if part < kept.len() {
            kept.select_nth_unstable_by(part, best_first);
        }
        kept[..part].sort_unstable_by(best_first);
        let mut before = 0.0;
        for (i, (_, weight)) in kept[..part].iter().enumerate() {
            before += weight;
            if before >= enough {
                kept.truncate(i + 1);
                return;
            }
        }
        if part == kept.len() {
            return;
        }
        sorted *= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::{Rng, Sampler, greedy};
    use crate::weights::GenerationConfig;

    const OFF: f32 = f32::NEG_INFINITY;

    fn sampler(change: impl FnOnce(&mut GenerationConfig)) -> Sampler {
        let mut config = GenerationConfig { do_sample: true, top_k: 0, ..Default::default() };
        change(&mut config);
        Sampler::new(&config, 7).unwrap()
    }

    /// The ids kept, in order of id.
    fn ids(sampler: &Sampler, logits: &[f32]) -> Vec<u32> {
        let mut ids: Vec<u32> = sampler.kept(logits).unwrap().iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Logits of these probabilities.
    fn logits(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn the_generator_is_splitmix64() {
        // The first outputs for this seed that the algorithm's authors' program prints.
        let mut rng = Rng::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
        let mut rng = Rng::new(0);
        let mean = (0..10_000).map(|_| rng.unit()).inspect(|u| assert!((0.0..1.0).contains(u)));
        assert!((mean.sum::<f64>() / 10_000.0 - 0.5).abs() < 0.02);
    }

    #[test]
    fn greedy_takes_the_first_of_the_highest() {
        assert_eq!(greedy(&[1.0, 3.0, 3.0, 2.0]).unwrap(), 1);
        assert_eq!(greedy(&[f32::NAN, -5.0, f32::NAN, -4.0]).unwrap(), 3);
        assert_eq!(greedy(&[OFF, OFF, -1e30]).unwrap(), 2);
        assert_eq!(greedy(&[0.0, f32::INFINITY]).unwrap(), 1);
        let error = greedy(&[f32::NAN, OFF, OFF]).unwrap_err().to_string();
        assert!(error.contains("1 logits are NaN and 2 are banned"), "{error}");
        assert!(greedy(&[]).is_err());
    }

    #[test]
    fn temperature_zero_is_greedy() {
        let mut cold = sampler(|c| c.temperature = 0.0);
        assert!(cold.is_greedy());
        assert_eq!(cold.sample(&[0.0, 9.0, 1.0]).unwrap(), 1);
        let mut near = sampler(|c| c.temperature = 1e-30);
        for _ in 0..100 {
            assert_eq!(near.sample(&[0.0, 9.0, 8.999]).unwrap(), 1);
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens_and_another_seed_others() {
        let config = GenerationConfig { do_sample: true, ..Default::default() };
        let row = [0.0; 40];
        let draw = |seed| -> Vec<u32> {
            let mut sampler = Sampler::new(&config, seed).unwrap();
            (0..20).map(|_| sampler.sample(&row).unwrap()).collect()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn frequencies_are_the_probabilities() {
        let expected = [0.5, 0.3, 0.15, 0.05];
        let mut sampler = sampler(|_| {});
        let mut counts = [0usize; 4];
        for _ in 0..20_000 {
            counts[sampler.sample(&logits(&expected)).unwrap() as usize] += 1;
        }
        for (count, p) in counts.iter().zip(expected) {
            // Five standard deviations of a binomial count.
            let deviation = (20_000.0 * p * (1.0 - p)).sqrt();
            assert!((*count as f32 - 20_000.0 * p).abs() < 5.0 * deviation, "{counts:?}");
        }
    }

    #[test]
    fn temperature_sharpens_and_flattens() {
        let weights = |temperature| sampler(|c| c.temperature = temperature).kept(&[2.0, 0.0]);
        assert!((weights(2.0).unwrap()[1].1 - (-1.0f64).exp()).abs() < 1e-12);
        assert!((weights(0.5).unwrap()[1].1 - (-4.0f64).exp()).abs() < 1e-12);
    }

    #[test]
    fn top_k_keeps_the_best_and_those_level_with_the_last() {
        let top = |k| sampler(|c| c.top_k = k);
        let row = [1.0, 5.0, 3.0, f32::NAN, 3.0, 2.0, OFF];
        assert_eq!(ids(&top(1), &row), [1]);
        assert_eq!(ids(&top(2), &row), [1, 2, 4]);
        assert_eq!(ids(&top(4), &row), [1, 2, 4, 5]);
        assert_eq!(ids(&top(50), &row), [0, 1, 2, 4, 5]);
        assert_eq!(ids(&top(0), &row), [0, 1, 2, 4, 5]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        let top = |p| sampler(|c| c.top_p = p);
        let row = logits(&[0.05, 0.5, 0.15, 0.3]);
        assert_eq!(ids(&top(0.0), &row), [1]);
        assert_eq!(ids(&top(0.49), &row), [1]);
        assert_eq!(ids(&top(0.51), &row), [1, 3]);
        assert_eq!(ids(&top(0.81), &row), [1, 2, 3]);
        assert_eq!(ids(&top(0.999), &row), [0, 1, 2, 3]);
    }

    #[test]
    fn top_p_of_a_large_vocabulary() {
        // Level probabilities need a part of the vocabulary, sharp ones a few tokens.
        let level = vec![0.0; 5000];
        assert_eq!(ids(&sampler(|c| c.top_p = 0.5), &level), (0..2500).collect::<Vec<_>>());
        let sharp: Vec<f32> = (0..5000).map(|i| -(((i * 7919) % 5000) as f32)).collect();
        let expected: Vec<u32> = (0..5000).filter(|i| (i * 7919) % 5000 < 3).collect();
        assert_eq!(ids(&sampler(|c| c.top_p = 0.95), &sharp), expected);
    }

    #[test]
    fn min_p_keeps_what_is_near_the_best() {
        let row = logits(&[0.05, 0.5, 0.15, 0.3]);
        assert_eq!(ids(&sampler(|c| c.min_p = 0.29), &row), [1, 2, 3]);
        assert_eq!(ids(&sampler(|c| c.min_p = 0.31), &row), [1, 3]);
        assert_eq!(ids(&sampler(|c| c.min_p = 1.0), &row), [1]);
    }

    #[test]
    fn top_p_counts_what_top_k_left() {
        let row = logits(&[0.4, 0.3, 0.2, 0.1]);
        let both = sampler(|c| {
            c.top_k = 2;
            // Of 0.7 that is left, 0.4 is 57 %.
            c.top_p = 0.56;
        });
        assert_eq!(ids(&both, &row), [0]);
    }

    #[test]
    fn infinite_and_missing_logits() {
        let mut any = sampler(|_| {});
        for _ in 0..50 {
            assert_eq!(any.sample(&[0.0, f32::INFINITY, f32::NAN]).unwrap(), 1);
            assert_eq!(any.sample(&[OFF, OFF, -3.0]).unwrap(), 2);
        }
        assert!(any.sample(&[OFF, f32::NAN]).is_err());
    }

    #[test]
    fn beams_are_not_sampled() {
        let config = GenerationConfig { num_beams: 4, ..Default::default() };
        let error = Sampler::new(&config, 0).unwrap_err().to_string();
        assert!(error.starts_with("`num_beams` is 4; expected 1"), "{error}");
    }
}
